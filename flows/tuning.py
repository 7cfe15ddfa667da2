"""The loop: propose a round, run it, learn from it, until the budget or the plateau; then crown the winner."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from flows.adoption import own_result
from flows.names import run_name
from flows.parallel import require_deployment, run_rounds
from flows.parameters import Place, as_overrides, settle
from flows.prepare import prepare
from flows.round import round_flow
from lora_core.data.pairs import dataset_digest
from lora_core.errors import NothingLeft, TrainingError
from lora_core.experiment import Experiment, PresetName, with_values
from lora_core.lineage import round_digest
from lora_core.promotion import Promotion
from lora_core.tuning.batches import next_batch
from lora_core.tuning.costs import expected_costs
from lora_core.workspace import Workspace
from tasks.champion import crown
from tasks.progress import rounds_artifact
from tasks.propose import propose
from tasks.record import recall, record, why_stop
from tasks.report import report
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish

logger = logging.getLogger(__name__)


@flow(name="tuning", flow_run_name=run_name("tuning"))
def tuning_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    promotion: Promotion = "best",
) -> dict[str, Any]:
    """Runs rounds, each from the clean base, and puts the best LoRA into output/champion.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        promotion: When the best LoRA becomes the champion: at once (best), only when it beats the present one on the
            same test photographs with significance, or when a person says so (ask).
    """
    refuse_endless_restarts()
    said = {"workspace": workspace, "experiment": experiment, "preset": preset, "overrides": overrides}
    place, plan = settle(workspace, experiment, preset, overrides)
    require_deployment(plan.tuning.parallel)
    prepared = prepare(place, plan, plan.tuning.rounds)
    show = rounds_artifact(place, plan)
    results: list[dict[str, Any]] = []
    stop = None
    while stop is None:
        batch = next_rounds(place, plan, results, prepared.base_digest)
        for one, result in zip(batch, run_batch(place, plan, batch, said), strict=True):
            record(place, plan, one.number, result)
            for sentence in result["advice"]:
                logger.info(sentence)
            results.append(result)
        stop = why_stop(place, plan, results)
        show(results, stop)
    logger.info("Stopped: %s", stop)
    crown(place, plan, promotion, said)
    report(place, plan)
    publish(place)
    return {"rounds": len(results), "stopped": stop}


@dataclass(frozen=True)
class Planned:
    """A round that is about to run.

    Attributes:
        number: from 0.
        digest: that its result will have.
        parameters: of `round_flow`, beside those of the loop itself.
    """

    number: int
    digest: str
    parameters: dict[str, Any]


def next_rounds(workspace: Workspace, plan: Experiment, results: list[dict[str, Any]], base: str) -> list[Planned]:
    """The rounds that run next, at the same time if `tuning.parallel` says so, each told with its reason.

    Args:
        workspace: the workspace.
        plan: the experiment as written.
        results: of the rounds so far.
        base: digest of the base model, which no round may change.

    Raises:
        NothingLeft: not even one round is left to try.
    """
    batch: list[Planned] = []
    for number in next_batch(plan, len(results)):
        try:
            proposal = propose(workspace, plan, number, results)
        except NothingLeft:
            if batch:
                break  # a smaller batch; what it teaches may show something to try
            raise
        logger.info("Round %d of at most %d: %s", number, plan.tuning.rounds, proposal.reason)
        planned = with_values(plan, proposal.changes)
        for sentence in expected_costs(workspace, planned, number):
            logger.info(sentence)
        asked = {
            "number": number,
            "changes": tuple(as_overrides(proposal.changes)),
            "reason": proposal.reason,
            "prune": plan.tuning.prune,
        }
        batch.append(Planned(number, wanted_digest(workspace, planned, base), asked))
    return batch


def run_batch(
    workspace: Workspace, plan: Experiment, batch: Sequence[Planned], said: dict[str, Any]
) -> list[dict[str, Any]]:
    """The results of the rounds; those that an earlier run finished are not run again.

    Args:
        workspace: the workspace.
        plan: the experiment as written.
        batch: the rounds.
        said: parameters of the loop that its rounds share.

    Raises:
        TrainingError: one of several that ran at the same time did not complete.
    """
    if plan.tuning.parallel == 1:
        (one,) = batch
        start = partial(round_flow, **said, **one.parameters)
        return [recall(workspace, plan, one.number, one.digest) or own_result(start, one.digest)]
    found = {one.number: recall(workspace, plan, one.number, one.digest) for one in batch}
    missing = [one for one in batch if found[one.number] is None]
    run_rounds([{**said, **one.parameters} for one in missing], [one.digest for one in missing])
    found |= {one.number: recall(workspace, plan, one.number, one.digest) for one in missing}
    if lacking := [number for number, result in found.items() if result is None]:
        raise TrainingError(
            f"round {lacking[0]} completed, but its result is not in {workspace.root}; its worker needs the same folder"
        )
    return [result for result in found.values() if result is not None]


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
