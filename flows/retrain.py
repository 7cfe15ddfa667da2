"""Retraining on a schedule: a new study where the photographs changed, a challenger for the champion."""

import logging
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, settle
from flows.tuning import tuning_flow
from lora_core.experiment import PresetName
from lora_core.promotion import Promotion
from lora_core.retraining import (
    When,
    begin_retraining,
    end_retraining,
    only_retraining,
    plan_retraining,
    still_changing,
)
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish

logger = logging.getLogger(__name__)


@flow(name="retrain", flow_run_name=run_name("retrain"))
def retrain_flow(
    workspace: Place,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    promotion: Promotion = "significant",
    when: When = "photographs changed",
    quiet_minutes: Annotated[float, Field(ge=0)] = 10,
) -> dict[str, Any]:
    """Tunes anew when the photographs changed; the winner becomes the champion only by the rule.

    The study is named after the photographs: it is done once, goes on where it was interrupted, and learns from the one
    before where that was scored alike.

    Args:
        workspace: The workspace's folder, or s3://bucket/path.
        experiment: Experiment file; empty: experiment.yaml of the workspace.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        promotion: When the winner becomes the champion: at once (best), only when it beats the present one on the same
            test photographs with significance, or when a person says so (ask).
        when: Only after the photographs changed, or at every time, with another seed.
        quiet_minutes: Photographs that changed less than so many minutes ago may still be being copied; then nothing
            is done until the next time.
    """
    refuse_endless_restarts()
    place, plan = settle(workspace, experiment, preset, overrides)
    with only_retraining(place) as alone:
        if not alone:
            return _nothing("Another retraining of this workspace is running.")
        if (path := still_changing(place, plan, quiet_minutes)) is not None:
            return _nothing(f"{path} changed less than {quiet_minutes:g} minutes ago; next time.")
        wanted = plan_retraining(place, plan, when)
        if wanted.stopped is not None:
            return _nothing(f"Study {wanted.name} was made from these photographs and is finished ({wanted.stopped}).")
        begun = begin_retraining(place, plan, wanted)
        logger.info("Retraining as study %s", begun.name)
        done = tuning_flow(workspace, experiment, preset, (*overrides, *begun.overrides), promotion)
        end_retraining(place, begun, done["stopped"])
        publish(place)
    return {"study": begun.name, **done}


def _nothing(why: str) -> dict[str, Any]:
    logger.info("Nothing to do: %s", why)
    return {"study": None, "stopped": why}
