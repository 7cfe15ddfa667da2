"""What is tried again: a process that was killed; never a mistake."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow

from lora_core.errors import DataError, ResourceError, TrainingError
from lora_core.experiment import Experiment, load_preset
from lora_core.process import ProcessDied, run_in_process
from lora_core.training import launch
from lora_core.workspace import Workspace
from tasks.degrade import all_twins
from tasks.retries import FRUITLESS
from tasks.sweep import part_of_sweep, whole_sweep
from tasks.train import train


@flow
def training(workspace: Workspace, experiment: Experiment) -> dict[str, Any]:
    return train.with_options(retry_delay_seconds=0)(workspace, experiment, 0)


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Replaces the training process by one that dies as often as asked, and tells how often it was started."""
    counter = tmp_path / "counter"

    def dies(times: int, goes_on: bool) -> Path:
        counter.touch()

        def train_round(workspace: Workspace, experiment: Experiment, number: int, _: object) -> dict[str, Any]:
            saved = counter.read_text if goes_on else lambda: None
            run_in_process("tests.tasks.mortal", [str(counter), str(times)], tmp_path / "training", saved=saved)
            return {"stopped": "complete"}

        monkeypatch.setattr(launch, "train_round", train_round)
        return counter

    return dies


@pytest.mark.parametrize(
    ("deaths", "goes_on", "starts", "outcome"),
    [
        (1, False, 2, None),
        (99, False, FRUITLESS + 1, ProcessDied),
        (FRUITLESS + 3, True, FRUITLESS + 4, None),
        (-1, False, 1, TrainingError),
    ],
    ids=["killed once", "killed at the start always", "killed often, each time further", "mistake"],
)
def test_training_is_started_again_only_after_a_kill(
    prefect_harness: None,
    mortal,
    tmp_path: Path,
    deaths: int,
    goes_on: bool,
    starts: int,
    outcome: type[Exception] | None,
) -> None:
    counter = mortal(deaths, goes_on)
    workspace, experiment = Workspace(tmp_path), load_preset("pocket")
    if outcome is None:
        assert training(workspace, experiment) == {"stopped": "complete"}
    else:
        with pytest.raises(outcome) as caught:
            training(workspace, experiment)
        assert type(caught.value) is outcome
    assert len(counter.read_text().splitlines()) == starts


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ProcessDied("signal 9"), True),
        (TrainingError("nan"), False),
        (DataError("no pairs"), False),
        (ResourceError("disk full"), False),
        (ValueError("defect"), False),
        (MemoryError(), False),
    ],
)
def test_retry_condition(error: Exception, again: bool) -> None:
    from prefect.states import Failed

    for task in (train, whole_sweep, part_of_sweep):
        assert task.retries > FRUITLESS and task.retry_condition_fn is not None
        assert task.retry_condition_fn(task, SimpleNamespace(id=uuid4()), Failed(data=error)) is again
    assert all_twins.retries == 0
