"""The order in which the server looks at events: Prefect's own, but with seconds of patience instead of 15 minutes.

Prefect holds an event back until the one before it has come by. One from before a restart of the server never does, nor
does one that was lost to a locked database; a run that crashed then would be started again a quarter of an hour later.

`photo-enhancer serve` names this module in PREFECT_SERVER_EVENTS_CAUSAL_ORDERING.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event, ReceivedEvent

PATIENCE = timedelta(seconds=10)
"""All events of a server with its queue in memory pass through one process, in seconds at most."""


class CausalOrdering(memory.CausalOrdering):
    """What keeps the order; Prefect makes one for each of its services."""

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Whether the event came by, or is so old that it never will."""
        identity = event if isinstance(event, UUID) else event.id
        return _begun(identity) < datetime.now(UTC) - PATIENCE or await super().event_has_been_seen(event)

    async def get_lost_followers(self) -> list[ReceivedEvent]:
        """The events that have waited long enough, in their order; they wait no more."""
        overdue = datetime.now(UTC) - PATIENCE
        async with self._lock:
            waiting = [identity for identity, received in self._waitlist.items() if received <= overdue]
            lost = [self._events[identity] for identity in waiting if identity in self._events]
        for event in lost:
            await self.forget_follower(event)
        return sorted(lost, key=lambda event: event.occurred)


def _begun(identity: UUID) -> datetime:
    """When an event's id was made: its first 48 bits, milliseconds, in version 7; others count as new."""
    if identity.version != 7:
        return datetime.now(UTC)
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)
