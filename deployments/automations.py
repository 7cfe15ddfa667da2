"""What the server does by itself when a run of ours dies: it says so, and starts the run again.

    python -m deployments.automations     # installs them on the configured server; `photo-enhancer serve` does so too

Only runs of our deployments are touched: their tag is what the automations look for, which the flows that such a run
calls in its own process do not have. A flow goes on where it stopped, so a run that was taken for dead by mistake
costs what it had not saved; one that has ended cannot be called crashed any more, the server refuses that.
"""

from datetime import timedelta
from typing import Any

from prefect.automations import EventTrigger, Posture
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore

from deployments.catalogue import HEARTBEAT_SECONDS, TAG
from tasks.restarts import RESTARTS

SILENCE = timedelta(seconds=3 * HEARTBEAT_SECONDS)
"""After which a run counts as dead; shorter than three heartbeats, healthy runs would too."""
REST = timedelta(seconds=15)
"""From crash to restart. A worker of Prefect 3.8 reports a crash twice, seconds apart; the second must not meet a run
that is under way again."""


def automations(silence: timedelta = SILENCE) -> list[AutomationCore]:
    """The automations of this version.

    Args:
        silence: without a sign of life, a running flow is called crashed after this time.
    """
    return [
        AutomationCore(
            name="photo-enhancer: a silent run has crashed",
            description="The process of a run and its worker died together: nobody else would ever say so.",
            trigger=_trigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                within=silence,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {silence}")],
        ),
        AutomationCore(
            name="photo-enhancer: a crashed run starts again",
            description=f"It goes on where it stopped. At most {RESTARTS} times, so that no run crashes for ever.",
            trigger=_trigger(
                after={"prefect.flow-run.Crashed"},
                expect={"prefect.flow-run.*"},
                within=REST,
                match={"prefect.run-count": [str(count) for count in range(1, RESTARTS + 1)]},
            ),
            actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message="starts again")],
        ),
    ]


def _trigger(
    after: set[str], expect: set[str], within: timedelta, match: dict[str, str | list[str]] | None = None
) -> EventTrigger:
    """Fires for each run of our deployments that shows none of `expect` within a time `after`."""
    return EventTrigger(
        after=after,
        expect=expect,
        within=within,
        match={"prefect.resource.id": "prefect.flow-run.*", **(match or {})},
        match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
    )


def ensure_automations() -> list[str]:
    """Creates the automations that are missing and brings those that differ up to date.

    One that a person switched off stays off.

    Returns:
        the names of those that were created or changed.
    """
    changed = []
    for one, present in _beside():
        with get_client(sync_client=True) as client:
            if present is None:
                client.create_automation(one)
            elif _content(present) == _content(one):
                continue
            else:
                client.update_automation(present.id, one.model_copy(update={"enabled": present.enabled}))
        changed.append(one.name)
    return changed


OFF = "is switched off"


def differing_automations() -> list[tuple[str, str]]:
    """Name and what is the matter, in words, of each automation that is not as it should be; `OFF`: switched off."""
    found = []
    for one, present in _beside():
        if present is None:
            found.append((one.name, "is missing"))
        elif _content(present) != _content(one):
            found.append((one.name, "is not as this version wants it"))
        elif not present.enabled:
            found.append((one.name, OFF))
    return found


def _beside() -> list[tuple[AutomationCore, Any]]:
    """Each automation of this version with what the server has under its name; None: nothing."""
    with get_client(sync_client=True) as client:
        return [(one, next(iter(client.read_automations_by_name(one.name)), None)) for one in automations()]


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What makes two automations the same; the server adds an id to each trigger."""
    values = automation.model_dump(mode="json", include={"description", "trigger", "actions"})
    return _without_ids(values)


def _without_ids(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_ids(value) for key, value in values.items() if key != "id"}
    return sorted(values) if isinstance(values, list) and all(isinstance(one, str) for one in values) else values


if __name__ == "__main__":
    for name in ensure_automations():
        print(f"installed: {name}")
