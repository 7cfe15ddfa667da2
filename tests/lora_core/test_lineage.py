import json
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import load_preset, save_experiment, with_values
from lora_core.files import write_text
from lora_core.lineage import append_ledger, check_round, read_results, round_digest
from lora_core.workspace import RoundFolder, StudyFolder


def result(number: int, digest: str = "d", **values: Any) -> dict[str, Any]:
    said = {"test_digest": "t", "reason": "a reason\u2028in two lines"}
    return {"round": number, "digest": digest, **said, **values}


def test_each_round_stands_in_the_ledger_once_and_in_order(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "study")
    assert read_results(study) == []
    for number in (1, 0, 1, 1):
        append_ledger(study, result(number))
    assert read_results(study) == [result(0), result(1)]
    before = study.ledger.read_bytes()
    append_ledger(study, result(0))
    assert study.ledger.read_bytes() == before
    assert [path.name for path in study.root.iterdir() if path.name != ".ledger.lock"] == ["ledger.jsonl"]


def test_a_round_with_another_digest_is_refused(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    append_ledger(study, result(0))
    with pytest.raises(ConfigError, match="round 0 with another digest"):
        append_ledger(study, result(0, "e"))
    assert read_results(study) == [result(0)]


def test_a_damaged_ledger_names_its_line(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    append_ledger(study, result(0))
    with study.ledger.open("a") as file:
        file.write('{"round": 1, "dig')
    with pytest.raises(DataError, match=r"ledger\.jsonl, line 2"):
        read_results(study)


def test_a_result_of_an_older_version_is_refused(tmp_path: Path) -> None:
    study, old = StudyFolder(tmp_path), result(0)
    del old["test_digest"]
    write_text(study.ledger, json.dumps(old) + "\n")
    with pytest.raises(DataError, match=r"ledger\.jsonl: round 0 .*older version .*give the experiment another name"):
        read_results(study)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"name": "other"}, True),
        ({"tuning.rounds": 100}, True),
        ({"training.time_limit": 5.0}, True),
        ({"training.state_every": 10}, True),
        ({"base.model": "elsewhere"}, True),
        ({"base.precision": "fp16"}, False),
        ({"seed": 1}, False),
        ({"data.prompt": "else"}, False),
        ({"degradation.seed": 1}, False),
        ({"adapter.rank": 33}, False),
        ({"objective.kind": "bridge"}, False),
        ({"training.learning_rate": 2e-3}, False),
        ({"sweep.steps": [2]}, False),
        ({"scoring.psnr_weight": 0.5}, False),
    ],
)
def test_the_digest_covers_what_decides_a_result(changes: dict[str, Any], same: bool) -> None:
    experiment = load_preset("pocket")
    digest = round_digest(experiment, "data", "base")
    assert (round_digest(with_values(experiment, changes), "data", "base") == digest) == same
    assert digest not in (round_digest(experiment, "else", "base"), round_digest(experiment, "data", "else"))


def test_a_round_folder_belongs_to_one_digest(tmp_path: Path) -> None:
    folder = RoundFolder(tmp_path / "round-000")
    folder.root.mkdir()
    save_experiment(load_preset("pocket"), folder.experiment)
    (folder.root / ".digest.1.tmp.txt").touch()
    for _ in range(2):
        check_round(folder, "one")
    folder.training.mkdir()
    check_round(folder, "one")
    with pytest.raises(ConfigError, match="digest one, now other"):
        check_round(folder, "other")


def test_files_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    folder = RoundFolder(tmp_path)
    folder.checkpoints.mkdir()
    with pytest.raises(ConfigError, match="holds checkpoints"):
        check_round(folder, "one")
