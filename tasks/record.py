"""What a finished round teaches the study, and whether another one follows."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.lineage import check_round, read_results
from lora_core.workspace import Workspace


@task(name="recall", task_run_name="recall round {number}", cache_policy=NO_CACHE)
def recall(workspace: Workspace, experiment: Experiment, number: int, digest: str) -> dict[str, Any] | None:
    """The result of a round that an earlier run finished; None where it is still to run."""
    study = workspace.study(experiment.name)
    found = [result for result in read_results(study) if (result["round"], result["digest"]) == (number, digest)]
    if not found:
        return None
    check_round(study.round(number), digest)
    return found[0]


@task(name="record", task_run_name="record round {number}", cache_policy=NO_CACHE)
def record(workspace: Workspace, experiment: Experiment, number: int, result: dict[str, Any]) -> None:
    """Tells the study how the round ended, once."""
    from lora_core.tuning.study import record as tell

    tell(workspace, experiment, number, result)


@task(name="consider stopping", cache_policy=NO_CACHE)
def why_stop(workspace: Workspace, experiment: Experiment, results: list[dict[str, Any]]) -> str | None:
    """Why no further round follows, in words; None where one does."""
    from lora_core.tuning.costs import minutes_of
    from lora_core.tuning.stopping import stop_reason

    return stop_reason(experiment, results, minutes_of(workspace, experiment, results))
