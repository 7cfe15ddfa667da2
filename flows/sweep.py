"""Restore the test photographs with every checkpoint of one round at every setting of the grid."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, settle_round
from lora_core.experiment import PresetName
from tasks.begin import begin
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish
from tasks.sweep import sweep


@flow(name="sweep", flow_run_name=run_name("sweep"))
def sweep_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: Annotated[int, Field(ge=0)] = 0,
) -> dict[str, Any]:
    """Sweeps one trained round; cells that are there already are kept.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: the round's own.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
    """
    refuse_endless_restarts()
    place, plan = settle_round(number, workspace, experiment, preset, overrides)
    begin(place, plan, number)
    swept = sweep(place, plan, number)
    publish(place)
    return swept
