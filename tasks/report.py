"""Finished rounds to the page for a person."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="report", cache_policy=NO_CACHE)
def report(workspace: Workspace, experiment: Experiment) -> Path:
    """Writes `report.html` and returns where it is."""
    from lora_core.report import write_report

    return write_report(workspace, experiment)
