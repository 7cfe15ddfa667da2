"""Checkpoints and the grid to restored photographs."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace
from tasks.retries import retry_may_help
from tasks.slots import gpu_slot


@task(
    name="sweep",
    task_run_name="sweep round {number}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=retry_may_help,
)
def sweep(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Restores the test photographs in every cell of the grid, in a process of its own; finished cells are kept."""
    from lora_core.sweep import sweep_round

    with gpu_slot():
        return sweep_round(workspace, experiment, number)
