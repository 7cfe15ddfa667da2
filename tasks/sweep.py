"""Checkpoints and the grid to restored photographs."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace
from tasks.retries import AFTER_A_KILL
from tasks.slots import gpu_slot


@task(
    name="sweep",
    task_run_name="sweep round {number}",
    cache_policy=NO_CACHE,
    **AFTER_A_KILL,
)
def sweep(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Restores the test photographs in every cell of the grid, in a process of its own; finished cells are kept."""
    from lora_core.sweep import sweep_round

    with gpu_slot():
        return sweep_round(workspace, experiment, number)
