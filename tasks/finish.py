"""A scored round to its diagnosis, its manifest and its line in the ledger."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="finish", task_run_name="finish round {number}", cache_policy=NO_CACHE)
def finish(
    workspace: Workspace, experiment: Experiment, number: int, changes: dict[str, Any], reason: str
) -> dict[str, Any]:
    """Writes the round's manifest and returns it."""
    from lora_core.rounds import finish_round

    return finish_round(workspace, experiment, number, changes, reason)
