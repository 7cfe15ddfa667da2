"""Write the report of the finished rounds again."""

from pathlib import Path

from prefect import flow

from flows.parameters import settle
from lora_core.experiment import PresetName
from tasks.report import report


@flow(name="report", flow_run_name="report {workspace}")
def report_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Writes report.html from the finished rounds and returns its path.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
    """
    return report(*settle(workspace, experiment, preset, overrides))
