"""The study's winner to the champion, by a rule or by asking a person."""

import logging
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.promotion import Promotion
from lora_core.promotion.command import command_line
from lora_core.workspace import Workspace
from tasks.runs import start_run

logger = logging.getLogger(__name__)


@task(name="crown", cache_policy=NO_CACHE)
def crown(workspace: Workspace, experiment: Experiment, promotion: Promotion, said: dict[str, Any]) -> str:
    """Makes the study's best LoRA the champion if the rule has it so, or has a person asked; says what came of it.

    Args:
        workspace: the workspace.
        experiment: of the study.
        promotion: the rule.
        said: what names workspace and experiment, as the parameters of a flow.
    """
    from lora_core.promotion.standing import rule

    ruling = rule(workspace, experiment, promotion)
    logger.info("%s", ruling.words)
    if ruling.undecided is not None:
        if promotion == "ask":
            _ask(experiment, said, ruling.undecided.digest)
        else:
            logger.info("To decide otherwise: %s", command_line("promote", said))
    return ruling.words


def _ask(experiment: Experiment, said: dict[str, Any], standing: str) -> None:
    """Starts the flow that asks, once for the same candidate and champion; without one, names the command that asks."""
    key = value_digest([str(said["workspace"]), experiment.name, standing])
    if not start_deployment("promote/promote", said, f"promote-{key[:32]}"):
        logger.info("Decide with: %s", command_line("promote", said))


def start_deployment(name: str, parameters: dict[str, Any], key: str) -> bool:
    """Starts a run and does not wait for it; False where there is no server that stays, or no such deployment on it.

    Args:
        name: `<flow>/<deployment>`.
        parameters: of the flow.
        key: the same key is the same run, however often it is started.
    """
    if get_current_settings().api.url is None:
        return False  # the server of one command ends with it
    try:
        run = start_run(name, parameters, key, as_subflow=False)
    except ObjectNotFound:
        return False
    logger.info("%s: %s", name, run.name)
    return True
