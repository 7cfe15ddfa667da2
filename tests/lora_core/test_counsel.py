"""Advice rests on the numbers that it names, and says so where there are too few."""

import re
from typing import Any

import pytest

from lora_core.tuning.counsel import counsel, counsel_pruned
from lora_core.tuning.evidence import Scores
from tests.lora_core.test_diagnosis import Case

FALLING = (1.0, 0.8, 0.6, 0.4, 0.2)
LEVEL = (1.0, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6)
RISING = (1.0, 0.7, 0.5, 0.55, 0.6, 0.65)


def done_of(*losses: float) -> dict[str, Any]:
    rows = [{"epoch": float(place), "images": 100 * place, "loss": loss} for place, loss in enumerate(losses)]
    checkpoints = [{"epoch": 2, "bytes": 3 * 2**20}, {"epoch": 4, "bytes": 3 * 2**20}]
    return {"photos": 25, "images": 400, "validations": rows, "checkpoints": checkpoints}


def log_of(*losses: float) -> list[dict[str, Any]]:
    return [{"epoch": float(place + 1), "loss": loss} for place, loss in enumerate(losses)]


def advice(
    case: Case, losses: tuple[float, ...], *earlier: tuple[float, float], log: tuple[float, ...] = ()
) -> list[str]:
    experiment = case.experiment()
    results = [
        {"changes": {"training.learning_rate": rate}, "winner": {"composite": points}} for rate, points in earlier
    ]
    return counsel(experiment, Scores(experiment, *case.tables()), done_of(*losses), log_of(*log), results, None)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case(epochs={2: 1.0, 4: 2.0}), r"4 are too few for 25 photographs, .*\+1.00 points over epoch 2.*try 8"),
        (Case(epochs={2: 1.98, 4: 2.0}), r"4 are enough for 25 photographs.*\+0.02 points over epoch 2"),
        (Case(epochs={2: 2.0, 4: 1.0}), r"2 of 4 are right for 25 photographs, more is worse \(\+1.00 points over"),
        (Case(epochs={2: 2.0, 4: 1.99}), r"2 of 4 are right for 25 photographs, more brings nothing clear"),
        (Case(epochs={4: 2.0}), r"cannot be said from one checkpoint; lower training.checkpoint_every"),
    ],
    ids=["too few", "enough", "too many", "no difference", "one checkpoint"],
)
def test_epochs_for_this_number_of_photographs(case: Case, words: str) -> None:
    assert re.search(words, advice(case, FALLING)[0])


@pytest.mark.parametrize(
    ("case", "losses", "log", "words"),
    [
        (Case(), FALLING, (), r"longer, before anything else \(validation loss 20.0% of the base's own, falling"),
        (Case(), LEVEL, (), r"longer will hardly help .*level; the winner has \+2.00 .*\+3.00 through"),
        (Case(), RISING, (0.9, 0.8, 0.7, 0.6, 0.5), "more photographs, these 25 are learnt by heart"),
        (Case(), RISING, (0.9, 0.8, 0.9, 0.9, 0.9), "none of them yet, the loss does not settle"),
        (Case(autoencoder=2.1), FALLING, (), "the base, for a LoRA cannot pass its autoencoder"),
        (Case(), (1.0, 0.9), (), "too few validations to say"),
        (Case(), (), (), "without validations"),
        (Case(autoencoder=-1.0), LEVEL, (), r"level; the winner has \+2.00 points\)"),
    ],
    ids=["falling", "level", "overfitting", "unstable", "ceiling", "short", "none", "no ceiling"],
)
def test_longer_or_photographs_or_base(
    case: Case, losses: tuple[float, ...], log: tuple[float, ...], words: str
) -> None:
    assert re.search(words, advice(case, losses, log=log)[1])


@pytest.mark.parametrize(
    ("losses", "earlier", "words"),
    [
        ((1.0, 1.2, 1.1), [], "to 0.0005 or less, and stop this one; .*at 110.0% of the base's own"),
        (RISING, [], "to 0.0005, or stop at epoch 2; .*its lowest was 50.0%"),
        (FALLING, [], "nothing asks for it .* 3 must be scored, there are 1"),
        (FALLING, [(1e-4, 3.0), (1e-2, 0.5)], r"lower ones did better, take 0.0001 .*0.0001: \+3.00, 0.001: \+2.00"),
        (FALLING, [(1e-4, 0.5), (1e-4, 1.0), (1e-2, 1.0)], r"0.001 is not too high .*0.0001: \+1.00"),
        ((1.0, 0.998, 1.001), [], "no, it has hardly moved the loss; a higher one may learn more"),
        ((), [], "without validations"),
    ],
    ids=["harm", "unstable", "few rates", "lower is better", "best so far", "hardly moved", "none"],
)
def test_halve_the_rate_or_stop(losses: tuple[float, ...], earlier: list[tuple[float, float]], words: str) -> None:
    assert re.search(words, advice(Case(), losses, *earlier)[2])


def test_rounds_that_leave_the_rate_as_written_count_with_it() -> None:
    case, experiment = Case(), Case().experiment()
    earlier = [
        {"changes": changes, "winner": {"composite": points}}
        for changes, points in (({}, 3.0), ({"adapter.rank": 8}, 2.5), ({"training.learning_rate": 1e-2}, 0.5))
    ]
    given = (experiment, Scores(experiment, *case.tables()), done_of(*FALLING), log_of(), earlier)
    assert re.search(r"take 0.0001 .*0.0001: \+3.00, 0.001: \+2.00, 0.01: \+0.50", counsel(*given, 1e-4)[2])
    assert "3 must be scored, there are 2" in counsel(*given, None)[2]


def test_what_doing_more_takes_and_what_a_pruned_round_is_told() -> None:
    sentence = advice(Case(), FALLING)[3]
    assert "Twice the epochs (8) would see 800 views instead of 400" in sentence
    assert "8 checkpoints of 3.0 MiB each instead of 2" in sentence
    told = counsel_pruned(Case().experiment(), done_of(1.0, 1.2, 1.3), [], [], None)
    assert len(told) == 2 and "stop this one" in told[0]
    broken = {**done_of(), "images": 0, "checkpoints": [], "pruned_because": "The loss is nan."}
    (told,) = counsel_pruned(Case().experiment(), broken, [], [], None)
    assert told.endswith("not enough, the loss broke down at once; try 0.0001 or less.")
