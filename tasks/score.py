"""Restored photographs to a table of scores."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="score", task_run_name="score round {number}", cache_policy=NO_CACHE)
def score(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Compares every cell with the originals; scores that are known are kept."""
    from lora_core.scoring import score_round

    return score_round(workspace, experiment, number)
