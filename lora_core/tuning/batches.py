"""Rounds that run at the same time: `tuning.parallel` of them, from a multiple of that number on.

A batch ends before the next one is proposed, so that what a round learns from is a function of its number and never of
which of its neighbours was quicker.
"""

from collections.abc import Sequence
from typing import Any

from lora_core.experiment import Experiment


def next_batch(experiment: Experiment, done: int) -> range:
    """The rounds that run next, after the first `done`; fewer where a batch was begun with another number or ends."""
    parallel = experiment.tuning.parallel
    return range(done, min((done // parallel + 1) * parallel, experiment.tuning.rounds))


def known_to(experiment: Experiment, number: int, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those results that were there when round `number` was proposed."""
    first = number - number % experiment.tuning.parallel
    return [result for result in results if result["round"] < first]
