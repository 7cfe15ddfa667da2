"""Checkpoints and the grid to restored photographs."""

import logging
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace
from tasks.fan_out import Assignment, fan_out
from tasks.retries import AFTER_A_KILL
from tasks.slots import gpu_slot

logger = logging.getLogger(__name__)


def sweep(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Restores the test photographs in every cell of the grid; finished cells are kept.

    Where `execution` shares it out, workers make the pictures first, and the whole finds that nothing is missing.
    """
    if experiment.execution.shared:
        _share_out(workspace, experiment, number)
    return whole_sweep(workspace, experiment, number)


@task(
    name="sweep",
    task_run_name="sweep round {number}",
    cache_policy=NO_CACHE,
    **AFTER_A_KILL,
)
def whole_sweep(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Makes all pictures that are missing, in a process of its own, and writes the sweep's manifest."""
    from lora_core.sweep import sweep_round

    with gpu_slot():
        return sweep_round(workspace, experiment, number)


@task(
    name="sweep a part",
    task_run_name="sweep round {number}, part {assignment.share}",
    cache_policy=NO_CACHE,
    **AFTER_A_KILL,
)
def part_of_sweep(
    workspace: Workspace, experiment: Experiment, number: int, digest: str, assignment: Assignment
) -> dict[str, Any] | None:
    """Makes a share of the pictures, in a process of its own; returns the manifest once the others' are there too."""
    from lora_core.sweep import sweep_part

    with assignment.begun() as share, assignment.own_gpu():
        return sweep_part(workspace, experiment, number, share, digest)


def _share_out(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Lets the workers go as far as they come together, again and again: each time by at least a stage of the race.

    Where they added nothing, they never will, and the whole makes what is missing.
    """
    from lora_core.sweep import conclude_sweep, parts_digest, picture_count, sweep_digest, swept

    study = workspace.study(experiment.name)
    digest = sweep_digest(workspace, experiment, number)
    if swept(study, study.round(number), digest):
        return
    agreed = parts_digest(workspace, experiment, number)
    said = {"workspace": workspace, "experiment": experiment, "number": number, "digest": agreed}
    before = -1
    while (there := picture_count(study)) != before:
        before = there
        if made := next((one for one in fan_out(part_of_sweep, experiment.execution, said, gpu=True) if one), None):
            conclude_sweep(workspace, experiment, number, made, digest)
            return
    logger.warning("The parts of the sweep wait for pictures that none of them makes; one process finishes it")
