"""Train the LoRA of one round, and nothing more."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.parameters import settle
from flows.prepare import prepare_flow
from lora_core.experiment import PresetName
from tasks.begin import begin
from tasks.train import train


@flow(name="train", flow_run_name="train {workspace} round {number}")
def train_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: int = 0,
) -> dict[str, Any]:
    """Trains one round from the clean base; a run that was killed goes on from its last saved state.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
    """
    place, plan = settle(workspace, experiment, preset, overrides)
    prepare_flow(workspace, experiment, preset, overrides)
    begin(place, plan, number)
    return train(place, plan, number)
