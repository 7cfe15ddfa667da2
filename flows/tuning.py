"""The loop: propose a round, run it, learn from it, until the budget or the plateau; then crown the winner."""

import logging
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from prefect import flow

from flows.adoption import own_result
from flows.parameters import as_overrides, settle
from flows.prepare import prepare_flow
from flows.round import round_flow
from lora_core.data.pairs import dataset_digest
from lora_core.experiment import Experiment, PresetName, with_values
from lora_core.lineage import round_digest
from lora_core.tuning.costs import expected_costs
from lora_core.workspace import Workspace
from tasks.champion import crown
from tasks.propose import propose
from tasks.record import recall, record, why_stop
from tasks.report import report
from tasks.restarts import refuse_endless_restarts

logger = logging.getLogger(__name__)


@flow(name="tuning", flow_run_name="tuning {workspace}")
def tuning_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Runs rounds, each from the clean base, and puts the best LoRA into output/champion.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
    """
    refuse_endless_restarts()
    started = monotonic()
    place, plan = settle(workspace, experiment, preset, overrides)
    run = partial(round_flow, workspace, experiment, preset, overrides)
    prepared = prepare_flow(workspace, experiment, preset, overrides, plan.tuning.rounds)
    results: list[dict[str, Any]] = []
    stop = None
    while stop is None:
        number = len(results)
        proposal = propose(place, plan, number, results)
        logger.info("Round %d of at most %d: %s", number, plan.tuning.rounds, proposal.reason)
        planned = with_values(plan, proposal.changes)
        for sentence in expected_costs(place, planned, number):
            logger.info(sentence)
        digest = wanted_digest(place, planned, prepared.base_digest)
        start = partial(run, number, tuple(as_overrides(proposal.changes)), proposal.reason, plan.tuning.prune)
        result = recall(place, plan, number, digest) or own_result(start, digest)
        record(place, plan, number, result)
        for sentence in result["advice"]:
            logger.info(sentence)
        results.append(result)
        stop = why_stop(plan, results, (monotonic() - started) / 60)
    logger.info("Stopped: %s", stop)
    crown(place, plan)
    report(place, plan)
    return {"rounds": len(results), "stopped": stop}


def wanted_digest(workspace: Workspace, planned: Experiment, base: str) -> str:
    """The digest that a round will have; its changes may add photographs (objective.prior_images) or captions.

    Args:
        workspace: the workspace.
        planned: the round's experiment, its changes applied.
        base: digest of the base model, which no round may change.

    Raises:
        DataError: the photographs that the round wants are not there.
    """
    return round_digest(planned, dataset_digest(workspace, planned), base)
