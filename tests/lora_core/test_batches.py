"""Rounds at the same time: what a round learns from is a function of its number, and a model sees those that run."""

from pathlib import Path

import pytest

from lora_core.tuning import study
from lora_core.tuning.batches import known_to, next_batch
from lora_core.tuning.journal import Journal
from lora_core.tuning.study import Proposal, propose, record
from lora_core.workspace import Workspace
from tests.lora_core.test_strategies import KIND, RATE, experiment_of, result_of

STARTED = (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("parallel", "done", "batch"),
    [
        (1, 0, [0]),
        (1, 7, [7]),
        (3, 0, [0, 1, 2]),
        (3, 3, [3, 4, 5]),
        (3, 4, [4, 5]),  # begun with another number
        (3, 6, [6, 7]),  # tuning.rounds ends it
        (16, 0, list(range(8))),
    ],
)
def test_a_batch_starts_at_a_multiple_and_ends_with_the_rounds(parallel: int, done: int, batch: list[int]) -> None:
    assert list(next_batch(experiment_of(parallel=parallel, rounds=8), done)) == batch


def test_a_round_knows_the_batches_before_its_own_however_quick_its_neighbours_were() -> None:
    results = [{"round": number} for number in (0, 1, 2, 3, 5)]
    known = {number: len(known_to(experiment_of(parallel=3), number, results)) for number in range(7)}
    assert known == {0: 0, 1: 0, 2: 0, 3: 3, 4: 3, 5: 3, 6: 5}
    assert len(known_to(experiment_of(), 5, results)) == 4


@pytest.mark.parametrize("strategy", ["gp", "tpe"])
def test_the_second_of_a_batch_is_drawn_away_from_the_first(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(RATE, KIND, strategy=strategy, parallel=2)

    def batch(place: str) -> list[Proposal]:
        workspace = Workspace(tmp_path / place)
        for number in STARTED:
            propose(workspace, experiment, number, [])
            record(workspace, experiment, number, result_of(number, 2.0 - abs(number - 2)))
        return [propose(workspace, experiment, number, []) for number in (4, 5)]

    first, second = batch("a")
    assert batch("b") == [first, second], "a function of the study"
    workspace = Workspace(tmp_path / "a")
    assert [propose(workspace, experiment, number, []) for number in (4, 5)] == [first, second], "asked again"
    trials = Journal(workspace.study("pocket").study_log, experiment).trials
    assert [one.user_attrs["round"] for one in trials if not one.state.is_finished()] == [4, 5]
    record(workspace, experiment, 5, result_of(5, 1.0))
    record(workspace, experiment, 4, result_of(4, 1.0))
    monkeypatch.setattr(study, "pending", lambda *_: [])
    alone, blind = batch("c")
    assert alone == first and blind != second, "the running round tells the model something"
