"""When the loop over rounds ends."""

from collections.abc import Sequence
from typing import Any

from lora_core.experiment import Experiment
from lora_core.tuning.advice import Tried, follow_advice, same_changes
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.space import combinations, search_space


def stop_reason(experiment: Experiment, results: Sequence[dict[str, Any]], started_minutes: float) -> str | None:
    """Why no further round is to start, in words; None while the loop goes on.

    Args:
        experiment: as written, without the changes of any round.
        results: the `result.json` of every finished round, in order.
        started_minutes: minutes since the loop started.

    Raises:
        ConfigError: a dimension that does not fit its key.
    """
    tuning = experiment.tuning
    if len(results) >= tuning.rounds:
        return f"all {tuning.rounds} rounds are done"
    if tuning.time_limit is not None and started_minutes >= tuning.time_limit:
        return f"the time limit of {tuning.time_limit:g} minutes is reached"
    if not results:
        return None
    best, waited = _best_and_waited(experiment, results)
    if waited >= tuning.patience:
        return (
            f"{waited} rounds in a row were not {tuning.min_improvement:g} points better than round {best['round']} "
            f"({best['winner']['composite']:+.2f} points)"
        )
    return _nothing_left(experiment, results)


def _best_and_waited(experiment: Experiment, results: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """The last round that counted as better, and how many rounds came after it."""
    best, waited = results[0], 0
    for result in results[1:]:
        gain = result["winner"]["composite"] - best["winner"]["composite"]
        if gain > 0 and gain >= experiment.tuning.min_improvement:
            best, waited = result, 0
        else:
            waited += 1
    return best, waited


def _nothing_left(experiment: Experiment, results: Sequence[dict[str, Any]]) -> str | None:
    tried = [Tried(result["round"], result["changes"], result["winner"]["composite"]) for result in results]
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
    possible = combinations(search_space(experiment))
    if possible is not None and len(different) >= possible:
        return f"all {possible} combinations of tuning.dimensions are done"
    return None
