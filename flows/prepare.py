"""Folders, base model, degraded twins: everything that a round needs, checked before the first costly second."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, settle
from lora_core.experiment import Experiment, PresetName
from lora_core.workspace import Workspace
from tasks.degrade import degrade
from tasks.prepare import check, match
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish

if TYPE_CHECKING:
    from lora_core.preparation import Prepared


@flow(name="prepare", flow_run_name=run_name("prepare"))
def prepare_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    rounds: Annotated[int, Field(ge=1)] = 1,
) -> "Prepared":
    """Checks the workspace and makes the degraded twins that are missing.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        rounds: Rounds that the disk must have room for.
    """
    refuse_endless_restarts()
    return prepare(*settle(workspace, experiment, preset, overrides), rounds)


def prepare(workspace: Workspace, experiment: Experiment, rounds: int = 1) -> "Prepared":
    """The preparation's tasks, in the run of whichever flow needs it: a run of its own would cost another second."""
    space = check(workspace, experiment, rounds)
    made = degrade(workspace, experiment)
    publish(workspace)
    return match(workspace, experiment, made, space)
