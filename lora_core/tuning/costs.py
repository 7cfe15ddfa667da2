"""What a round costs in time and disk, as the rounds before it did. Imports neither torch nor Optuna.

Seconds differ from run to run, so they never enter a round's result; they lie beside it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lora_core.experiment import Experiment
from lora_core.files import read_json, write_json
from lora_core.lineage import read_results
from lora_core.workspace import RoundFolder, Workspace


@dataclass(frozen=True)
class Stopwatch:
    """Writes how long the stages of a round take; a stage that failed and goes on is added up."""

    folder: RoundFolder

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures one stage, also one that fails."""
        started = monotonic()
        try:
            yield
        finally:
            known = stage_seconds(self.folder)
            passed = monotonic() - started
            if self.folder.root.is_dir():
                write_json(self.folder.seconds, {**known, stage: round(known.get(stage, 0.0) + passed, 1)})


def stage_seconds(folder: RoundFolder) -> dict[str, float]:
    """Seconds by stage; empty where nothing was measured."""
    return dict(read_json(folder.seconds)) if folder.seconds.exists() else {}


def minutes_of(workspace: Workspace, experiment: Experiment, results: Sequence[dict[str, Any]]) -> float:
    """How long the rounds took; of those that ran at the same time, the longest.

    A loop that starts again recalls the rounds that are finished, and counts them as they were. A stage includes the
    attempts of its task that died and the pauses between them; what a run that was itself killed had spent on the stage
    under way is not counted.

    Args:
        workspace: the workspace.
        experiment: of the study.
        results: of its rounds so far.
    """
    study, longest = workspace.study(experiment.name), defaultdict[int, float](float)
    for number in (result["round"] for result in results):
        batch = number // experiment.tuning.parallel
        longest[batch] = max(longest[batch], sum(stage_seconds(study.round(number)).values()))
    return sum(longest.values()) / 60


def expected_costs(workspace: Workspace, experiment: Experiment, number: int) -> list[str]:
    """Time and disk that round `number` should take, from the scored rounds before it, in sentences.

    Training is reckoned by images seen, the rest as it was; rounds that were pruned are no measure.

    Args:
        experiment: the round's, its changes applied.
        number: the round, from 0.
    """
    study = workspace.study(experiment.name)
    earlier = [result for result in read_results(study) if result["round"] < number and not result["pruned"]]
    measured = [(result, seconds) for result in earlier if (seconds := stage_seconds(study.round(result["round"])))]
    if not measured:
        return ["How long this round takes is not known yet: no round before it was run to its end here."]
    result, seconds = measured[-1]
    folder = study.round(result["round"])
    images, epochs = result["images"], max(1, result["epochs"])
    ratio = experiment.training.epochs / epochs
    training = ratio * seconds.get("training", 0.0)
    rest = seconds.get("sweep", 0.0) + seconds.get("scoring", 0.0)
    disk = sum(file.stat().st_size for file in folder.root.rglob("*") if file.is_file())
    return [
        f"Like round {result['round']} it should take about {duration(training + rest)}: {duration(training)} to train "
        f"on {ratio * images:,.0f} views, {duration(rest)} for sweep and scores; about {disk / 2**20:,.0f} MiB of disk "
        "without its restored pictures."
    ]


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min` or `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
