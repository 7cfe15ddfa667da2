"""Clean photographs to degraded twins."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.preparation import degrade_workspace, photo_count
from lora_core.workspace import Workspace
from tasks.progress import progress_bar


@task(name="degrade", cache_policy=NO_CACHE)
def degrade(workspace: Workspace, experiment: Experiment) -> int:
    """Makes the twins that are missing, unless the user brings them; returns how many were made."""
    with progress_bar("degrading photographs", photo_count(workspace)) as progress:
        return degrade_workspace(workspace, experiment, progress)
