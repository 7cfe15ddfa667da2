"""Write the report of the finished rounds again."""

from pathlib import Path

from prefect import flow

from flows.names import run_name
from flows.parameters import Place, settle
from lora_core.experiment import PresetName
from tasks.report import report
from tasks.restarts import refuse_endless_restarts


@flow(name="report", flow_run_name=run_name("report"))
def report_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Writes report.html from the finished rounds and returns its path.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
    """
    refuse_endless_restarts()
    return report(*settle(workspace, experiment, preset, overrides, only_reads=True))
