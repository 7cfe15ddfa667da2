"""One round: train, sweep, score, and say what came of it."""

import logging
from pathlib import Path
from typing import Any

from prefect import flow

from flows.parameters import changes_in, settle
from flows.prepare import prepare_flow
from lora_core.experiment import PresetName
from lora_core.tuning.costs import Stopwatch
from tasks.artifacts import publish_diagnosis, publish_scores
from tasks.begin import begin
from tasks.finish import finish
from tasks.report import report
from tasks.score import score
from tasks.sweep import sweep
from tasks.train import train

logger = logging.getLogger(__name__)


@flow(name="round", flow_run_name="{workspace} round {number}", persist_result=True, result_serializer="json")
def round_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: int = 0,
    changes: tuple[str, ...] = (),
    reason: str = "asked for by hand",
    prune: bool = False,
) -> dict[str, Any]:
    """Runs one round from the clean base to its scores; what is already there is kept.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
        changes: What this round tries, each as section.key=value.
        reason: Why it tries that.
        prune: Give the round up at its first checkpoints when its validation loss is hopeless.
    """
    said = (*overrides, *changes)
    place, plan = settle(workspace, experiment, preset, said)
    prepare_flow(workspace, experiment, preset, said)
    begin(place, plan, number)
    watch = Stopwatch(place.study(plan.name).round(number))
    logger.info("Round %d: training", number)
    with watch("training"):
        done = train(place, plan, number, prune)
    if done["pruned_because"]:
        logger.info("Round %d is given up: %s", number, done["pruned_because"])
    else:
        logger.info("Round %d: restoring the test photographs with every checkpoint", number)
        with watch("sweep"):
            sweep(place, plan, number)
        logger.info("Round %d: scoring", number)
        with watch("scoring"):
            score(place, plan, number)
    result = finish(place, plan, number, changes_in(plan, changes), reason)
    if not result["pruned"]:
        publish_scores(place, plan, number)
    publish_diagnosis(place, plan, result)
    report(place, plan)
    return result
