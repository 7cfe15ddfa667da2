"""Folders, base model, degraded twins: everything that a round needs, checked before the first costly second."""

from pathlib import Path

from prefect import flow

from flows.parameters import settle
from lora_core.experiment import PresetName
from lora_core.preparation import Prepared
from tasks.degrade import degrade
from tasks.prepare import check, match


@flow(name="prepare", flow_run_name="prepare {workspace}")
def prepare_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    rounds: int = 1,
) -> Prepared:
    """Checks the workspace and makes the degraded twins that are missing.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        rounds: Rounds that the disk must have room for.
    """
    place, plan = settle(workspace, experiment, preset, overrides)
    space = check(place, plan, rounds)
    made = degrade(place, plan)
    return match(place, plan, made, space)
