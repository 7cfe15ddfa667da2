"""A hopeless run ends at a checkpoint with its reason; killed, it ends the same; asked for by hand, it goes on."""

from pathlib import Path

import pytest

from lora_core.data.pairs import training_pairs
from lora_core.errors import LossError
from lora_core.experiment import apply_overrides, load_experiment
from lora_core.files import read_json, write_json
from lora_core.lineage import read_results
from lora_core.preparation import prepare
from lora_core.rounds import begin_round, finish_round, result_in_words
from lora_core.training import launch, worker
from lora_core.training.launch import finished, train_round
from lora_core.tuning.pruning import Pruner
from lora_core.workspace import Workspace
from tests.small_round import make_workspace

SETTINGS = (
    "adapter.text_encoder=false", "monitoring.samples=0", "monitoring.validation_photos=2", "training.epochs=4",
    "training.checkpoint_every=1", "training.learning_rate=1e-6",
)  # fmt: skip
STRONG = Pruner(tuple([(images, 0.1) for images in range(1, 1000)] for _ in range(3)))
"""Rivals that had a tenth of the base's loss all along."""


@pytest.fixture
def workspace(tmp_path: Path, miniature: Path, photos: Path) -> Workspace:
    return make_workspace(tmp_path / "work", miniature, photos)


def test_a_hopeless_run_ends_early_the_same_after_a_kill_and_goes_on_by_hand(workspace: Workspace) -> None:
    experiment = apply_overrides(load_experiment(workspace.experiment), list(SETTINGS))
    prepare(workspace, experiment)
    folder = workspace.study(experiment.name).round(0)
    write_json(folder.training / "pruner.json", STRONG.as_json())
    worker.train(workspace, experiment, 0)
    done = read_json(folder.training_done)
    assert done["stopped"] == "pruned" and "clearly behind" in done["pruned_because"]
    assert [row["epoch"] for row in done["checkpoints"]] == [1, 2]
    before = folder.training_done.read_bytes()
    folder.training_done.unlink()
    worker.train(workspace, experiment, 0)
    assert folder.training_done.read_bytes() == before
    digest = done["digest"]
    assert finished(folder, digest) and not finished(folder, digest, pruned_too=False)
    (folder.training / "pruner.json").unlink()
    worker.train(workspace, experiment, 0)
    done = read_json(folder.training_done)
    assert (done["stopped"], done["pruned_because"]) == ("complete", None)
    assert [row["epoch"] for row in done["checkpoints"]] == [1, 2, 3, 4]


def test_a_loss_that_is_no_number_ends_the_round_in_a_loop_and_the_command_by_hand(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = apply_overrides(load_experiment(workspace.experiment), list(SETTINGS))
    prepare(workspace, experiment)

    def breaks_down(*_: object, **__: object) -> None:
        raise LossError("the loss is nan at update 3 (files: a.png); lower training.learning_rate")

    monkeypatch.setattr(launch, "run_in_process", breaks_down)
    begin_round(workspace, experiment, 0)
    with pytest.raises(LossError):
        train_round(workspace, experiment, 0)
    done = train_round(workspace, experiment, 0, Pruner())
    assert done["stopped"] == "pruned" and done["photos"] == len(training_pairs(workspace, experiment))
    result = finish_round(workspace, experiment, 0, {}, "the experiment as written")
    assert result == finish_round(workspace, experiment, 0, {}, "the experiment as written")
    study = workspace.study(experiment.name)
    assert read_results(study) == [result] == [read_json(study.round(0).result)]
    assert result["pruned"] and result["winner"] is None and "the loss is nan" in result["pruned_because"].lower()
    assert result["diagnosis"][0]["advice"]["training.learning_rate"]["high"] == pytest.approx(5e-7)
    assert "given up early" in result_in_words(result)
    with pytest.raises(LossError):
        train_round(workspace, experiment, 0)
