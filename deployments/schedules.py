"""Schedules of the retraining that the command line sets; those made in the UI are nobody's but the user's."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import ValidationError

from lora_core.errors import ConfigError

RETRAIN = "retrain/retrain"


@dataclass(frozen=True)
class Retraining:
    """When a workspace is trained again.

    Attributes:
        workspace: as the form takes it: relative to the root, or an address.
        cron: a cron line; the photographs need not have changed.
        minutes: how often to look whether the photographs have changed.
        timezone: in which `cron` is read.
    """

    workspace: str
    cron: str | None = None
    minutes: int | None = None
    timezone: str = "UTC"

    @property
    def slug(self) -> str:
        """The schedule's name on the server: the same workspace has one by cron and one by change."""
        word = re.sub(r"[^a-z0-9]+", "-", self.workspace.lower()).strip("-") or "root"
        return f"{word}-{'cron' if self.cron else 'when-changed'}"

    @property
    def words(self) -> str:
        """What it does, for the terminal."""
        if self.cron:
            return f"{self.workspace} by cron '{self.cron}' ({self.timezone})"
        return f"{self.workspace} when its photographs have changed, looked at every {self.minutes} minutes"

    def schedule(self) -> CronSchedule | IntervalSchedule:
        """The schedule for Prefect.

        Raises:
            ConfigError: the cron line or the time zone means nothing.
        """
        if not self.cron:
            return IntervalSchedule(interval=timedelta(minutes=self.minutes or 1))
        try:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"--cron '{self.cron}' ({self.timezone}): {problem}; for example --cron '0 3 * * 0', Sundays at three"
            ) from error

    def parameters(self) -> Mapping[str, Any]:
        """What the flow is given on this schedule."""
        return {"workspace": self.workspace, "when": "always" if self.cron else "photographs changed"}


def put_schedule(retraining: Retraining) -> bool:
    """Sets the schedule, or changes the one of the same name; returns whether it is new.

    One that a person switched off in the UI stays off.

    Raises:
        ConfigError: the cron line means nothing.
        prefect.exceptions.ObjectNotFound: the retraining is not deployed.
    """
    schedule, parameters = retraining.schedule(), dict(retraining.parameters())
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(RETRAIN)
        present = next((one for one in deployment.schedules if one.slug == retraining.slug), None)
        if present is None:
            create = DeploymentScheduleCreate(schedule=schedule, parameters=parameters, slug=retraining.slug)
            client.create_deployment_schedules(deployment.id, [create])
        else:
            if isinstance(schedule, IntervalSchedule) and isinstance(present.schedule, IntervalSchedule):
                schedule.anchor_date = present.schedule.anchor_date  # the next look stays where it was
            client.update_deployment_schedule(deployment.id, present.id, schedule=schedule, parameters=parameters)
    return present is None


def local_timezone() -> str:
    """The IANA name of this machine's time zone.

    Raises:
        ConfigError: it cannot be told.
    """
    place = os.environ.get("TZ", "").lstrip(":") or "/etc/localtime"
    if Path(place).is_absolute():
        if sys.platform != "win32" and not Path(place).exists():
            return "UTC"  # as the C library has it
        place = os.path.realpath(place).partition("zoneinfo/")[2]
    if place in available_timezones():
        return place
    raise ConfigError("the name of this machine's time zone cannot be told; give it: --timezone Europe/Berlin")
