"""What a person is shown of a candidate, and what is done about the answer."""

import logging
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.promotion.command import command_line
from lora_core.workspace import Workspace
from tasks.artifacts import artifact_key, harmless
from tasks.champion import start_deployment

if TYPE_CHECKING:
    from lora_core.promotion.decisions import Decision
    from lora_core.promotion.standing import Standing

logger = logging.getLogger(__name__)


@task(name="weigh the candidate", cache_policy=NO_CACHE)
def weigh(workspace: Workspace, experiment: Experiment) -> "Standing":
    """Holds the study's candidate against the present champion."""
    from lora_core.promotion.standing import require_standing

    return require_standing(workspace, experiment)


@task(name="publish the candidate", cache_policy=NO_CACHE)
def publish_candidate(workspace: Workspace, experiment: Experiment, standing: "Standing") -> str:
    """Publishes the candidate's numbers; returns the question to a person, as Markdown."""
    from lora_core.promotion.telling import details, question
    from tasks.links import address_of

    report = workspace.study(experiment.name).report.absolute()
    asked = question(standing, address_of(report) or str(report))
    with harmless("the candidate"):
        text = f"{asked}\n\n{details(standing)}"
        create_markdown_artifact(text, key=artifact_key(workspace, experiment, "candidate"))
    return asked


@task(name="look for earlier forms", cache_policy=NO_CACHE)
def earlier_forms(run: str, shown: str) -> bool:
    """Whether this run was answered about another candidate or champion.

    Args:
        run: id of the flow run.
        shown: beginning of the keys of the forms about this candidate and champion.
    """
    from uuid import UUID

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        inputs = client.filter_flow_run_input(
            flow_run_id=UUID(run), key_prefix="suspended-", limit=200, exclude_keys=set()
        )
    answered = [one.key for one in inputs if one.key.endswith("-response")]
    return bool(answered) and not any(key.startswith(f"suspended-{shown}-") for key in answered)


@task(name="carry out the decision", cache_policy=NO_CACHE)
def carry_out(workspace: Workspace, experiment: Experiment, decision: "Decision", said: dict[str, Any]) -> str:
    """Promotes, or starts another try; doing it again changes nothing. Says what was done."""
    from lora_core.promotion.carrying import approve, hand_on
    from lora_core.promotion.versions import present_champion

    candidate = f"Round {decision.round} of {decision.study}"
    if decision.choice == "reject":
        return f"{candidate} was rejected; the champion stays."
    if decision.choice == "approve":
        version = approve(workspace, experiment, decision)
        if version == present_champion(workspace):
            return f"{candidate} is the champion now: {version.folder}"
        return f"{candidate} was approved and became the champion; what has replaced it since stays."
    hand_on(workspace, experiment, decision)
    next_try = {**said, "overrides": [*said["overrides"], *decision.overrides]}
    key = f"try-again-{decision.digest[:32]}"
    if start_deployment("tuning/tuning", {**next_try, "promotion": "ask"}, key):
        return f"Another try was started, with {', '.join(decision.overrides)}."
    return f"Start another try with: {command_line('tune', next_try, '--promote', 'ask')}"
