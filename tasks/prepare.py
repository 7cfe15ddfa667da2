"""What is checked before the first costly second."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.preparation import Prepared, check_workspace, match_pairs
from lora_core.workspace import Workspace


@task(name="check", cache_policy=NO_CACHE)
def check(workspace: Workspace, experiment: Experiment, rounds: int) -> int:
    """Checks base model, photographs and disk; returns the bytes that the rounds may need."""
    return check_workspace(workspace, experiment, rounds)


@task(name="match", cache_policy=NO_CACHE)
def match(workspace: Workspace, experiment: Experiment, twins_made: int, space: int) -> Prepared:
    """Matches clean and degraded photographs, strictly both ways, and digests them."""
    return match_pairs(workspace, experiment, twins_made, space)
