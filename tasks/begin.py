"""The claim on a round's folder."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="begin", task_run_name="begin round {number}", cache_policy=NO_CACHE)
def begin(workspace: Workspace, experiment: Experiment, number: int) -> str:
    """Claims the round's folder for this experiment and these photographs; returns the round's digest."""
    from lora_core.rounds import begin_round

    return begin_round(workspace, experiment, number)
