"""A person decides whether a study's winner becomes the champion; the flow waits without a process or a GPU."""

import logging
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from pydantic import ValidationError

from flows.names import run_name
from flows.parameters import Place, settle
from flows.promotion_form import PromotionForm, form
from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, PresetName
from lora_core.promotion.command import command_line
from lora_core.promotion.decisions import Decision, decision_of_run, remember
from lora_core.workspace import Workspace
from tasks.promote import carry_out, earlier_forms, publish_candidate, weigh
from tasks.report import report
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish

if TYPE_CHECKING:
    from lora_core.promotion.standing import Standing

logger = logging.getLogger(__name__)
_CHANGED = "the candidate or the champion changed while the form was open; please look again"


@flow(name="promote", flow_run_name=run_name("promote"), persist_result=True, result_serializer="json")
def promote_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
) -> str:
    """Shows a person the study's best LoRA beside the champion, waits for the answer, and does what it says.

    It starts from the top when it goes on, so whatever it does, it can do twice.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
    """
    refuse_endless_restarts()
    said = {"workspace": workspace, "experiment": experiment, "preset": preset, "overrides": overrides}
    run = _run_of_a_deployment(said)
    place, plan = settle(workspace, experiment, preset, overrides)
    decision = decision_of_run(place.study(plan.name), run)
    if decision is None:
        standing = weigh(place, plan)
        if standing.is_champion:
            return f"Round {standing.candidate.round} of {plan.name} is the champion already."
        decision = remember(place.study(plan.name), _ask(place, plan, standing, run))
    done = carry_out(place, plan, decision, said)
    logger.info("%s", done)
    report(place, plan)
    publish(place)
    return done


def _ask(workspace: Workspace, experiment: Experiment, standing: "Standing", run: str) -> Decision:
    """Suspends the run until there is an answer that can be carried out.

    A form is known by its key: when the run goes on, those that were answered answer at once. The key names candidate
    and champion, so that an answer holds for what was shown.
    """
    question = publish_candidate(workspace, experiment, standing)
    shown = standing.digest[:12]
    problem = _CHANGED if earlier_forms(run, shown) else ""
    answer: PromotionForm | None = None
    logger.info("Waits for a decision: choose Resume in the menu of this run")
    for number in count():
        told = f"**Not taken:** {problem}\n\n{question}" if problem else question
        try:
            answer = suspend_flow_run(wait_for_input=form(told, answer), key=f"{shown}-{number}")
            return _decision(workspace, experiment, standing, answer, run)
        except ValidationError:
            problem = "no answer was given"
        except ConfigError as error:
            problem = str(error).removeprefix("--set ")
    raise AssertionError("the count has no end")


def _decision(
    workspace: Workspace, experiment: Experiment, standing: "Standing", answer: PromotionForm, run: str
) -> Decision:
    """The answer as a decision. Raises ConfigError where its overrides cannot be carried out."""
    from dataclasses import replace

    from lora_core.promotion.again import settings_of_next_try

    changes: tuple[str, ...] = ()
    if answer.decision == "try again":
        changes = settings_of_next_try(workspace, experiment, answer.overrides)
    elif answer.overrides:
        raise ConfigError(f"overrides belong to try again; the decision was {answer.decision}")
    decision = standing.decision(answer.decision, "a person, in the Prefect UI", answer.note)
    return replace(decision, overrides=changes, run=run)


def _run_of_a_deployment(said: dict[str, Any]) -> str:
    """The id of this run.

    Raises:
        ConfigError: it is no run of a deployment, so nothing could start it again after the answer.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        raise ConfigError(
            "to wait for an answer, promote must run as a deployment (photo-enhancer serve); here, decide with: "
            + command_line("promote", said)
        )
    return str(context.flow_run.id)
