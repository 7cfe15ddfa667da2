"""Train the LoRA of one round, and nothing more."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, settle
from flows.prepare import prepare
from lora_core.experiment import PresetName
from tasks.begin import begin
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish
from tasks.train import train


@flow(name="train", flow_run_name=run_name("train"))
def train_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: Annotated[int, Field(ge=0)] = 0,
) -> dict[str, Any]:
    """Trains one round from the clean base; a run that was killed goes on from its last saved state.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
    """
    refuse_endless_restarts()
    place, plan = settle(workspace, experiment, preset, overrides)
    prepare(place, plan)
    begin(place, plan, number)
    done = train(place, plan, number)
    publish(place)
    return done
