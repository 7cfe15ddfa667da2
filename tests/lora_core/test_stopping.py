from pathlib import Path
from typing import Any

import pytest

from lora_core.experiment import Experiment, load_preset, parse_experiment
from lora_core.files import write_json
from lora_core.tuning.stopping import stop_reason
from lora_core.workspace import Workspace
from tasks.record import why_stop

RATE = {"key": "training.learning_rate", "low": 1e-5, "high": 1e-2, "log": True}
KIND = {"key": "objective.kind", "choices": ["direct", "bridge"]}
LONGER = {"code": "still-improving", "says": "", "advice": {"training.epochs": {"low": 4, "high": 8}}}


def experiment_of(*dimensions: dict[str, Any], **tuning: Any) -> Experiment:
    values = load_preset("pocket").model_dump(mode="json")
    values["tuning"] = {"rounds": 8, "patience": 2, "min_improvement": 0.1, "dimensions": list(dimensions), **tuning}
    return parse_experiment(values, "test")


def rounds(*composites: float, **last: Any) -> list[dict[str, Any]]:
    results = [
        {"round": number, "changes": {"training.learning_rate": 10.0**-number}, "winner": {"composite": composite}}
        for number, composite in enumerate(composites)
    ]
    results[-1] |= {"diagnosis": [], **last}
    return results


@pytest.mark.parametrize(
    ("composites", "reason"),
    [
        ([], None),
        ([1.0], None),
        ([1.0, 0.5], None),
        ([1.0, 0.5, 0.9], "2 rounds in a row were not 0.1 points better than round 0 (+1.00 points)"),
        ([1.0, 1.05, 1.09], "2 rounds in a row were not 0.1 points better than round 0 (+1.00 points)"),
        ([1.0, 1.06, 1.12], None),
        ([1.0, 0.5, 1.2, 1.1], None),
        ([-1.0, -0.5, -0.6, -0.7], "2 rounds in a row were not 0.1 points better than round 1 (-0.50 points)"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "all 8 rounds are done"),
    ],
)
def test_rounds_and_patience(composites: list[float], reason: str | None) -> None:
    assert stop_reason(experiment_of(RATE), rounds(*composites) if composites else [], 0.0) == reason


def test_equal_rounds_wear_out_the_patience_even_where_any_improvement_counts() -> None:
    experiment = experiment_of(RATE, min_improvement=0.0)
    assert stop_reason(experiment, rounds(1.0, 1.0, 1.0), 0.0) is not None
    assert stop_reason(experiment, rounds(1.0, 1.001, 1.002), 0.0) is None


@pytest.mark.parametrize(("minutes", "reason"), [(29.9, None), (30.0, "the time limit of 30 minutes is reached")])
def test_time_limit(minutes: float, reason: str | None) -> None:
    assert stop_reason(experiment_of(RATE, time_limit=30), rounds(1.0), minutes) == reason


def test_a_loop_that_starts_again_ends_after_the_same_round(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for parallel, ended in ((1, 2), (2, 3)):
        experiment = experiment_of(RATE, time_limit=30, parallel=parallel, patience=8)
        for number in range(4):
            seconds = {"training": 800.0 + number, "scoring": 100.0}
            write_json(workspace.study(experiment.name).round(number).seconds, seconds)
        results = rounds(1.0, 2.0, 3.0, 4.0)
        stops = [why_stop.fn(workspace, experiment, results[:done]) for done in range(1, 5)]
        limit = "the time limit of 30 minutes is reached"
        assert stops == [limit if done >= ended else None for done in range(1, 5)]


def test_without_dimensions_the_loop_lives_on_untried_advice() -> None:
    experiment = experiment_of()
    advised = stop_reason(experiment, rounds(1.0, changes={}, diagnosis=[LONGER]), 0.0)
    silent = stop_reason(experiment, rounds(1.0, changes={}), 0.0)
    grid = {"code": "", "says": "", "advice": {"sweep.strengths": {"low": 0.01, "high": 0.2}}}
    tuples = rounds(1.0, 0.5, changes={"sweep.strengths": (0.01, 0.05, 0.1, 0.2)}, diagnosis=[grid])
    tuples[0]["changes"] = {}
    repeated = stop_reason(experiment, tuples, 0.0)
    assert advised is None
    assert repeated is not None and "advises nothing" in repeated
    assert silent is not None and "advises nothing" in silent


def test_a_small_space_ends_when_it_is_gone_through() -> None:
    experiment = experiment_of(KIND)
    results = rounds(1.0, 2.0)
    results[0]["changes"] = {"objective.kind": "direct"}
    for kind, reason in (("direct", None), ("bridge", "all 2 combinations of tuning.dimensions are done")):
        results[1]["changes"] = {"objective.kind": kind}
        assert stop_reason(experiment, results, 0.0) == reason


def test_rounds_that_were_given_up_wear_out_the_patience() -> None:
    experiment = experiment_of(RATE)
    results = rounds(1.0, 0.5, 1.2)
    for place in (1, 2):
        results[place]["winner"] = None
    assert stop_reason(experiment, results, 0.0) == (
        "2 rounds in a row were not 0.1 points better than round 0 (+1.00 points)"
    )
    results[0]["winner"] = None
    reason = stop_reason(experiment, results, 0.0)
    assert reason is not None and reason.startswith("all of the first 3 rounds were given up early")
    results[2]["winner"] = {"composite": -5.0}
    assert stop_reason(experiment, results, 0.0) is None, "the first round with scores counts as better than none"


def test_advice_starts_from_the_best_round_that_meets_the_constraints() -> None:
    """From round 0 the advice leads to epochs that round 1 tried; from round 2, which is not allowed, not."""
    results = rounds(1.0, 0.5, 2.0, changes={"adapter.rank": 8}, diagnosis=[LONGER])
    results[0]["changes"], results[1]["changes"] = {}, {"training.epochs": 6}
    assert stop_reason(experiment_of(), results, 0.0) is None
    results[2]["winner"]["feasible"] = False
    reason = stop_reason(experiment_of(patience=5), results, 0.0)
    assert reason is not None and "advises nothing" in reason


def test_a_round_that_meets_the_constraints_is_better_than_one_that_does_not() -> None:
    results = rounds(2.0, 0.5, 0.4)
    results[0]["winner"]["feasible"] = False
    assert stop_reason(experiment_of(RATE), results, 0.0) is None
    results[0]["winner"]["feasible"] = True
    assert stop_reason(experiment_of(RATE), results, 0.0) is not None
