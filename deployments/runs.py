"""The flow runs of this machine: which processes are theirs, and how a run without a process begins again.

The server's automations see a crash too, within seconds or 90 seconds; but an event that was in memory when the server
died is lost, and then only the machine that knows its processes can tell.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingRetry, Cancelled

from deployments.catalogue import TAG
from deployments.supervisor import end
from tasks.restarts import RESTARTS, run_of

_WORKER = "prefect.worker.name"
HANDS_OFF = timedelta(seconds=60)
_KILLED = re.compile(r"status code:? (-9|-15|137|143)\b")
_LONG_AGO = timedelta(days=1)
_PAGE = 200
"""Runs in one answer of the server; it gives no more."""


def run_ids(processes: Iterable[psutil.Process]) -> set[UUID]:
    """The flow runs that these processes belong to."""
    found = set()
    for process in processes:
        with suppress(ValueError):
            found.add(UUID(run_of(process) or ""))
    return found


def give_back(runs: Iterable[UUID]) -> list[str]:
    """Offers runs whose processes were ended to the workers again; returns the names of those that had not ended.

    One that its worker has called crashed meanwhile had not: its process was there a moment ago. One that the server
    cannot be asked about is left to its automations.
    """
    names = []
    with get_client(sync_client=True) as client:
        for identity in runs:
            with suppress(Exception):
                run = client.read_flow_run(identity)
                if run.state and (run.state.is_running() or run.state.is_pending() or run.state.is_crashed()):
                    _again(client, run)
                    names.append(run.name)
    return names


class Rescue:
    """Starts again what died unseen: runs of a worker that should have a process and have none, or stayed crashed.

    It also cancels for a worker that was restarted: only the one that started a process would end it.

    Args:
        worker: the worker's name.
        processes: those that may be of its runs; asked for after the server, so that a run that began meanwhile is
            among them.
        hands_off: for so long the automations may restart a crashed run, a new one may have no process yet, and a
            worker may take to cancel one.
    """

    def __init__(
        self, worker: str, processes: Callable[[], Sequence[psutil.Process]], hands_off: timedelta = HANDS_OFF
    ) -> None:
        self._worker, self._processes, self._hands_off = worker, processes, hands_off
        self._missing: set[UUID] | None = None

    def look(self) -> list[str]:
        """Starts runs again and returns their names.

        A run without a process must be so at two looks, for its worker may be about to report the crash. At the first
        look it need not: a worker that has just begun knows nothing of it.
        """
        names, missing = [], set()
        with get_client(sync_client=True) as client:
            mine = [run for run in _unfinished(client) if run.labels.get(_WORKER) == self._worker]
            processes = self._processes()
            alive = run_ids(processes)
            for listed in mine:
                # A run that ended meanwhile told the server so before its process went.
                run = client.read_flow_run(listed.id)
                if _is_not_cancelled(run, self._hands_off):
                    end([process for process in processes if run.id in run_ids([process])])
                    client.set_flow_run_state(run.id, Cancelled(message="its worker did not end it"), force=True)
                lost = run.id not in alive and _has_begun(run, self._hands_off)
                if _is_forgotten(run, self._hands_off) or (lost and (self._missing is None or run.id in self._missing)):
                    _again(client, run)
                    names.append(run.name)
                elif lost:
                    missing.add(run.id)
        self._missing = missing
        return names


def _unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    under_way = _in_states(StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
    crashed = _in_states(StateType.CRASHED)
    crashed.end_time = FlowRunFilterEndTime(after_=datetime.now(UTC) - _LONG_AGO)
    return [*_all(client, under_way), *_all(client, crashed)]


def _in_states(*states: StateType) -> FlowRunFilter:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
    return FlowRunFilter(tags=FlowRunFilterTags(all_=[TAG]), state=state)


def _all(client: SyncPrefectClient, chosen: FlowRunFilter) -> list[FlowRun]:
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=chosen, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(found)
    ):
        found += page
    return found


def _is_not_cancelled(run: FlowRun, hands_off: timedelta) -> bool:
    return run.state is not None and run.state.is_cancelling() and _age(run) > hands_off


def _has_begun(run: FlowRun, hands_off: timedelta) -> bool:
    return run.state is not None and (run.state.is_running() or (run.state.is_pending() and _age(run) > hands_off))


def _is_forgotten(run: FlowRun, hands_off: timedelta) -> bool:
    """Whether it crashed, and no automation came. One that never began starts again only if it was killed: where the
    installation is broken, it stays and says why."""
    if run.state is None or not run.state.is_crashed() or not hands_off < _age(run) < _LONG_AGO:
        return False
    return 0 < run.run_count <= RESTARTS or (run.run_count == 0 and bool(_KILLED.search(run.state.message or "")))


def _age(run: FlowRun) -> timedelta:
    assert run.state is not None
    return datetime.now(UTC) - run.state.timestamp


def _again(client: SyncPrefectClient, run: FlowRun) -> None:
    client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC)))
