"""One round: train, sweep, score, and say what came of it."""

import logging
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, changes_in, settle
from flows.prepare import prepare
from lora_core.experiment import Experiment, PresetName
from lora_core.tuning.costs import Stopwatch
from lora_core.workspace import Workspace
from tasks.artifacts import publish_round, publish_scores
from tasks.begin import begin
from tasks.finish import finish
from tasks.progress import round_progress
from tasks.report import report
from tasks.restarts import refuse_endless_restarts
from tasks.score import score
from tasks.storage import publish
from tasks.sweep import sweep
from tasks.train import train

logger = logging.getLogger(__name__)


@flow(name="round", flow_run_name=run_name(), persist_result=True, result_serializer="json")
def round_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: Annotated[int, Field(ge=0)] = 0,
    changes: tuple[str, ...] = (),
    reason: str = "asked for by hand",
    prune: bool = False,
) -> dict[str, Any]:
    """Runs one round from the clean base to its scores; what is already there is kept.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
        changes: What this round tries, each as section.key=value.
        reason: Why it tries that.
        prune: Give the round up at its first checkpoints when its validation loss is hopeless.
    """
    refuse_endless_restarts()
    said = (*overrides, *changes)
    place, plan = settle(workspace, experiment, preset, said)
    prepare(place, plan)
    begin(place, plan, number)
    with round_progress(place, plan, number):
        run_stages(place, plan, number, prune)
    result = finish(place, plan, number, changes_in(plan, changes), reason)
    report(place, plan)
    publish(place)
    if not result["pruned"]:
        publish_scores(place, plan, number)
    publish_round(place, plan, result)
    return result


def run_stages(workspace: Workspace, experiment: Experiment, number: int, prune: bool) -> None:
    """Trains, restores and scores, each with its time taken; a round that is given up ends after its training."""
    watch = Stopwatch(workspace.study(experiment.name).round(number))
    logger.info("Round %d: training", number)
    with watch("training"):
        done = train(workspace, experiment, number, prune)
    publish(workspace)
    if done["pruned_because"]:
        logger.info("Round %d is given up: %s", number, done["pruned_because"])
        return
    logger.info("Round %d: restoring the test photographs with every checkpoint", number)
    with watch("sweep"):
        sweep(workspace, experiment, number)
    publish(workspace)
    logger.info("Round %d: scoring", number)
    with watch("scoring"):
        score(workspace, experiment, number)
