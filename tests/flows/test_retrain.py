"""Retraining: the same photographs are the same study, changed ones a new one, and one at a time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import retrain
from flows.parameters import settle
from flows.retrain import retrain_flow
from lora_core.data.pairs import dataset_digest, pairs_digest, test_pairs
from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment, save_experiment, with_values
from lora_core.images import read_rgb, write_png
from lora_core.lineage import append_ledger, read_results
from lora_core.preparation import degrade_workspace
from lora_core.retraining import plan_retraining, still_changing
from lora_core.tuning.study import propose, record
from lora_core.workspace import Workspace
from tests.small_round import make_workspace

RATE = {"key": "training.learning_rate", "low": 1e-4, "high": 1e-2, "log": True}


class Tuning:
    """Stands in for the loop: proposes a round, and enters a result for it without training anything."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []
        self.dies = False

    def __call__(self, workspace: Path, _: Any, __: Any, overrides: tuple[str, ...], promotion: str) -> dict[str, Any]:
        place, plan = settle(workspace, None, None, overrides)
        self.runs.append((plan.name, promotion))
        degrade_workspace(place, plan)
        propose(place, plan, 0, [])
        if self.dies:
            raise RuntimeError("killed")
        finish(place, plan)
        return {"rounds": 1, "stopped": "all 1 rounds are done"}


def finish(place: Workspace, plan: Experiment) -> None:
    result = {
        "round": 0,
        "digest": "a" * 64,
        "dataset_digest": dataset_digest(place, plan),
        "test_digest": pairs_digest(test_pairs(place, plan), place),
        "perceptual": {"name": "GMSD", "reason": ""},
        "winner": {"id": "cell", "composite": 1.0},
        "changes": {},
    }
    append_ledger(place.study(plan.name), result)
    record(place, plan, 0, result)


@pytest.fixture
def place(tmp_path: Path, miniature: Path, photos: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "work", miniature, photos)
    searched = with_values(load_experiment(workspace.experiment), {"tuning.dimensions": [RATE]})
    save_experiment(searched, workspace.experiment)
    return workspace


@pytest.fixture
def tuning(prefect_harness: None, monkeypatch: pytest.MonkeyPatch) -> Tuning:
    stand_in = Tuning()
    monkeypatch.setattr(retrain, "tuning_flow", stand_in)
    return stand_in


def again(place: Workspace, **options: Any) -> dict[str, Any]:
    done: dict[str, Any] = retrain_flow(place.root, quiet_minutes=0, **options)
    return done


def change_a_photograph(folder: Path) -> None:
    path = sorted(folder.rglob("*.png"))[0]
    write_png(path, 255 - read_rgb(path))


def test_only_changed_photographs_are_trained_on_and_the_new_study_learns_from_the_old(
    place: Workspace, tuning: Tuning
) -> None:
    first = again(place)
    assert first["study"].startswith("mini-") and first["stopped"] == "all 1 rounds are done"
    second = again(place)
    assert second["study"] is None and f"Study {first['study']} was made from these photographs" in second["stopped"]
    assert tuning.runs == [(first["study"], "significant")]

    change_a_photograph(place.train)
    tuning.dies = True
    with pytest.raises(RuntimeError, match="killed"):
        again(place)
    tuning.dies = False
    third = again(place, promotion="ask")
    assert third["study"] != first["study"]
    assert tuning.runs[1:] == [(third["study"], "significant"), (third["study"], "ask")], "the interrupted one goes on"
    assert json.loads(place.study(third["study"]).retraining.read_text())["learns_from"] == first["study"]

    change_a_photograph(place.test)
    fourth = again(place)
    kept = json.loads(place.study(fourth["study"]).retraining.read_text())
    assert kept["learns_from"] is None and kept["stopped"], "composites on other test photographs say nothing"


def test_always_takes_another_seed_and_finishes_what_it_began(place: Workspace, tuning: Tuning) -> None:
    first = again(place, when="always")["study"]
    tuning.dies = True
    with pytest.raises(RuntimeError, match="killed"):
        again(place, when="always")
    tuning.dies = False
    second = again(place, when="always")["study"]
    assert second == f"{first}-2" and [name for name, _ in tuning.runs] == [first, second, second]
    seeds = [json.loads(place.study(name).retraining.read_text())["seed"] for name in (first, second)]
    assert seeds == [0, 1]


def test_what_tune_made_of_the_same_photographs_is_not_made_again(place: Workspace, tuning: Tuning) -> None:
    tuning(place.root, None, None, (), "best")
    assert again(place)["study"] == "mini"
    assert "Study mini was made from these photographs" in again(place)["stopped"]
    assert [name for name, _ in tuning.runs] == ["mini", "mini"] and len(read_results(place.study("mini"))) == 1


def test_photographs_that_are_being_copied_wait_for_the_next_time(place: Workspace, tuning: Tuning) -> None:
    done = retrain_flow(place.root, quiet_minutes=60)
    assert done["study"] is None and "changed less than 60 minutes ago" in done["stopped"] and not tuning.runs
    plan = load_experiment(place.experiment)
    assert still_changing(place, plan, 0) is None
    path = sorted(place.train.rglob("*.png"))[0]
    os.utime(path, (time.time() - 1e6,) * 2)  # as a copy that keeps the original's time
    assert still_changing(place, plan, 60) is not None


def test_a_second_retraining_does_nothing_while_the_first_runs(place: Workspace, tuning: Tuning) -> None:
    hold = (
        "import sys\nfrom pathlib import Path\nfrom lora_core.workspace import Workspace\n"
        "from lora_core.retraining import only_retraining\n"
        "with only_retraining(Workspace(Path(sys.argv[1]))) as alone:\n    print(alone, flush=True)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(place.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        assert again(place) == {"study": None, "stopped": "Another retraining of this workspace is running."}
        other.kill()
    assert not tuning.runs and again(place)["study"] is not None


def test_only_what_a_person_brings_counts_as_a_photograph(place: Workspace) -> None:
    plan = load_experiment(place.experiment)
    before = plan_retraining(place, plan, "photographs changed").photographs
    degrade_workspace(place, plan)
    assert plan_retraining(place, plan, "photographs changed").photographs == before
    own = with_values(plan, {"degradation.preset": "own"})
    with_twins = plan_retraining(place, own, "photographs changed").photographs
    change_a_photograph(place.test_degraded)
    assert plan_retraining(place, own, "photographs changed").photographs != with_twins
    assert plan_retraining(place, plan, "photographs changed").photographs == before
    (place.train / "3_targets" / "new.png").write_bytes(sorted(place.test.iterdir())[0].read_bytes())
    assert plan_retraining(place, plan, "photographs changed").photographs != before


def test_a_damaged_record_is_named(place: Workspace) -> None:
    file = place.study("mini-1").retraining
    file.parent.mkdir(parents=True)
    file.write_text('{"of": "mini"}')
    with pytest.raises(DataError, match=r"retraining\.json is damaged"):
        plan_retraining(place, load_experiment(place.experiment), "photographs changed")
