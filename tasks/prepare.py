"""What is checked before the first costly second."""

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace
from tasks.fan_out import require_runner

if TYPE_CHECKING:
    from lora_core.preparation import Prepared


@task(name="check", cache_policy=NO_CACHE)
def check(workspace: Workspace, experiment: Experiment, rounds: int) -> int:
    """Checks base model, photographs, disk and workers; returns the bytes that the rounds may need."""
    from lora_core.preparation import check_workspace

    require_runner(experiment.execution)
    return check_workspace(workspace, experiment, rounds)


@task(name="match", cache_policy=NO_CACHE)
def match(workspace: Workspace, experiment: Experiment, twins_made: int, space: int) -> "Prepared":
    """Matches clean and degraded photographs, strictly both ways, and digests them."""
    from lora_core.preparation import match_pairs

    return match_pairs(workspace, experiment, twins_made, space)
