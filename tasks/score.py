"""Restored photographs to a table of scores."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.files import file_digest
from lora_core.workspace import Workspace
from tasks.fan_out import Assignment, fan_out


def score(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Compares every cell with the originals; scores that are known are kept.

    Where `execution` shares it out, workers score the cells first, and the whole finds their scores.
    """
    folder = workspace.study(experiment.name).round(number)
    if experiment.execution.shared and folder.sweep_done.exists() and not folder.table.exists():
        said = {"workspace": workspace, "experiment": experiment, "number": number}
        fan_out(part_of_scores, experiment.execution, {**said, "digest": file_digest(folder.sweep_done)})
    return whole_scores(workspace, experiment, number)


@task(name="score", task_run_name="score round {number}", cache_policy=NO_CACHE)
def whole_scores(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Scores what is not scored yet and writes the round's tables."""
    from lora_core.scoring import score_round

    return score_round(workspace, experiment, number)


@task(name="score a part", task_run_name="score round {number}, part {assignment.share}", cache_policy=NO_CACHE)
def part_of_scores(
    workspace: Workspace, experiment: Experiment, number: int, digest: str, assignment: Assignment
) -> None:
    """Scores a share of the cells."""
    from lora_core.scoring import score_part

    with assignment.begun() as share:
        score_part(workspace, experiment, number, share, digest)
