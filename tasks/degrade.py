"""Clean photographs to degraded twins."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.share import require_same
from lora_core.workspace import Workspace
from tasks.fan_out import Assignment, fan_out
from tasks.progress import progress_bar


def degrade(workspace: Workspace, experiment: Experiment) -> int:
    """Makes the twins that are missing, unless the user brings them; returns how many were made.

    Where `execution` shares it out, workers make them first, and the whole looks at them again.
    """
    from lora_core.preparation import photos_digest, unmade_twins

    made = 0
    if experiment.execution.shared and unmade_twins(workspace, experiment) > experiment.execution.workers:
        said = {"workspace": workspace, "experiment": experiment, "digest": photos_digest(workspace)}
        made = sum(fan_out(part_of_twins, experiment.execution, said))
    return made + all_twins(workspace, experiment)


@task(name="degrade", cache_policy=NO_CACHE)
def all_twins(workspace: Workspace, experiment: Experiment) -> int:
    """Makes what is missing, writes the manifest, and refuses photographs that cannot be read."""
    from lora_core.preparation import degrade_workspace, photo_count

    with progress_bar("degrading photographs", photo_count(workspace)) as progress:
        return degrade_workspace(workspace, experiment, progress)


@task(name="degrade a part", task_run_name="degrade part {assignment.share}", cache_policy=NO_CACHE)
def part_of_twins(workspace: Workspace, experiment: Experiment, digest: str, assignment: Assignment) -> int:
    """Makes the twins of a share of the photographs; returns how many."""
    from lora_core.preparation import degrade_workspace, photos_digest

    with assignment.begun() as share:
        require_same(photos_digest(workspace), digest, "the photographs", workspace.root)
        return degrade_workspace(workspace, experiment, share=share)
