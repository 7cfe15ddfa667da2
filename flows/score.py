"""Compare the swept pictures of one round with their originals."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, settle_round
from lora_core.experiment import PresetName
from tasks.artifacts import publish_scores
from tasks.begin import begin
from tasks.restarts import refuse_endless_restarts
from tasks.score import score
from tasks.storage import publish


@flow(name="score", flow_run_name=run_name("score"))
def score_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: Annotated[int, Field(ge=0)] = 0,
) -> dict[str, Any]:
    """Scores one swept round and publishes its table.

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
    scores = score(place, plan, number)
    publish(place)
    publish_scores(place, plan, number)
    return scores
