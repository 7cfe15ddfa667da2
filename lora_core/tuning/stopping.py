"""When the loop over rounds ends."""

from collections.abc import Sequence
from typing import Any

from lora_core.experiment import Experiment
from lora_core.scoring import rank
from lora_core.tuning.advice import Tried, follow_advice, same_changes
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.space import combinations, search_space


def stop_reason(experiment: Experiment, results: Sequence[dict[str, Any]], minutes: float) -> str | None:
    """Why no further round is to start, in words; None while the loop goes on.

    Args:
        experiment: as written, without the changes of any round.
        results: the `result.json` of every finished round, in order.
        minutes: that these rounds took.

    Raises:
        ConfigError: a dimension that does not fit its key.
    """
    tuning = experiment.tuning
    if len(results) >= tuning.rounds:
        return f"all {tuning.rounds} rounds are done"
    if tuning.time_limit is not None and minutes >= tuning.time_limit:
        return f"the time limit of {tuning.time_limit:g} minutes is reached"
    if not results:
        return None
    best, waited = _best_and_waited(experiment, results)
    if tuning.strategy == "manual":
        return (
            f"all {len(tuning.manual)} rounds of tuning.manual are done" if len(results) >= len(tuning.manual) else None
        )
    if waited >= tuning.patience:
        if best is None:
            return f"all of the first {waited} rounds were given up early; see why, and lower training.learning_rate"
        return (
            f"{waited} rounds in a row were not {tuning.min_improvement:g} points better than round {best['round']} "
            f"({best['winner']['composite']:+.2f} points)"
        )
    return _nothing_left(experiment, results)


def _best_and_waited(experiment: Experiment, results: Sequence[dict[str, Any]]) -> tuple[dict[str, Any] | None, int]:
    """The last round that counted as better, None where all were pruned, and how many rounds came after it."""
    best, waited = None, 0
    for result in results:
        if _better(result, best, experiment.tuning.min_improvement):
            best, waited = result, 0
        else:
            waited += 1
    return best, waited


def _better(result: dict[str, Any], best: dict[str, Any] | None, least: float) -> bool:
    """Whether a round counts as better than the best one before it; a pruned one never does."""
    if result["winner"] is None or best is None:
        return result["winner"] is not None
    (allowed, points), (allowed_before, points_before) = rank(result["winner"]), rank(best["winner"])
    if allowed != allowed_before:  # one of them does not meet the constraints
        return allowed
    return points > points_before and points - points_before >= least


def _tried(result: dict[str, Any]) -> Tried:
    allowed, composite = rank(result["winner"]) if result["winner"] else (True, None)
    return Tried(result["round"], result["changes"], composite, allowed)


def _nothing_left(experiment: Experiment, results: Sequence[dict[str, Any]]) -> str | None:
    tried = [_tried(result) for result in results]
    if not experiment.tuning.dimensions:
        findings = [Finding(**finding) for finding in results[-1]["diagnosis"]]
        if follow_advice(experiment, tried, findings) is None:
            return "tuning.dimensions is empty and the diagnosis advises nothing that was not tried"
        return None
    different = [
        round_
        for place, round_ in enumerate(tried)
        if not any(same_changes(round_.changes, other.changes) for other in tried[:place])
    ]
    possible = combinations(experiment, search_space(experiment))
    if possible is not None and len(different) >= possible:
        return f"all {possible} combinations of tuning.dimensions are done"
    return None
