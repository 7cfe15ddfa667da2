"""What `photo-enhancer doctor` looks at on the Prefect server, a line each, and what `--repair` does about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectNotFound

from deployments.automations import OFF, differing_automations, ensure_automations
from deployments.catalogue import deploy, missing_deployments, newer_deployments
from deployments.pools import POOLS, ensure_pools, missing_pools
from deployments.runs import run_ids
from deployments.server import require_version, server_version
from lora_core.doctor import Check
from lora_core.errors import UserError
from tasks.slots import LEASE_SECONDS, ensure_slots, slot_names

_SERVE = "photo-enhancer serve"
_REPAIR = "photo-enhancer doctor --repair"
_LEASES = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem"
_ORDERING = "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING=deployments.ordering"


@dataclass(frozen=True)
class Finding:
    """A line, and what would mend it; None: nothing to mend, or only a person can."""

    check: Check
    mend: Callable[[], object] | None = None


def operations(api: str, repair: bool = False) -> Iterator[Check]:
    """Looks at what the server has for us.

    Args:
        api: address of the Prefect API.
        repair: mend what can be mended, and say so.
    """
    try:
        version = server_version(api)
        if version is None:
            return  # the examination of the installation has said so
        require_version(api, version)
    except UserError as error:
        yield Check("fail", str(error))
        return
    yield Check("ok", f"the server runs Prefect {version}")
    for look in (_server_settings, _pools, _workers, _slots, _automations, _deployments):
        for finding in look():
            yield _mended(finding) if repair and finding.mend else finding.check


def _mended(finding: Finding) -> Check:
    assert finding.mend is not None
    try:
        finding.mend()
    except Exception as error:  # whatever the server has against it is the answer
        return Check("fail", f"{finding.check.says}; could not be mended: {error}")
    return Check("ok", f"mended: {finding.check.says}")


def _server_settings() -> Iterator[Finding]:
    with get_client(sync_client=True) as client:
        server: dict[str, Any] = client.request("GET", "/admin/settings").json().get("server", {})
    leases = server.get("concurrency", {}).get("lease_storage", "")
    if leases.endswith(".memory"):
        yield _warning(
            "the server keeps the leases of GPU slots in memory: one held while it restarts is never free again",
            f"start it by {_SERVE}, or with {_LEASES}",
        )
    if server.get("events", {}).get("causal_ordering", "").endswith(".ordering.memory"):
        yield _warning(
            "after a restart of the server, a crashed run may start again only after a quarter of an hour",
            f"start it by {_SERVE}, or with {_ORDERING}",
        )
    if server.get("analytics_enabled"):
        yield _warning("the server sends usage statistics", "start it with PREFECT_SERVER_ANALYTICS_ENABLED=false")


def _pools() -> Iterator[Finding]:
    if missing := missing_pools():
        yield Finding(Check("fail", f"missing work pools: {', '.join(missing)}", _REPAIR), ensure_pools)
        return
    with get_client(sync_client=True) as client:
        paused = [name for name in POOLS if client.read_work_pool(name).is_paused]
    for name in paused:
        yield _warning(f"the work pool {name} is paused: nothing in it starts", "resume it in the UI")
    if not paused:
        yield Finding(Check("ok", f"work pools: {', '.join(POOLS)}"))


def _workers() -> Iterator[Finding]:
    idle = []
    with get_client(sync_client=True) as client:
        for name in POOLS:
            try:
                workers = client.read_workers_for_work_pool(name)
            except ObjectNotFound:
                workers = []
            if not any(worker.status and worker.status.value == "ONLINE" for worker in workers):
                idle.append(name)
    if idle:
        yield _warning(f"no worker for {', '.join(idle)}: runs from the UI and schedules would wait", f"start {_SERVE}")
    else:
        yield Finding(Check("ok", "a worker polls each work pool"))


def _slots() -> Iterator[Finding]:
    names, sound = slot_names(), True
    for name in names:
        limit = _limit(name)
        if limit is None:
            sound = False
            yield Finding(Check("fail", f"the GPU slot {name} is missing on the server", _REPAIR), ensure_slots)
        elif not limit.active:
            sound = False
            says = f"the GPU slot {name} is switched off: any number of processes share one GPU"
            yield Finding(Check("fail", says, "switch it on in the UI"))
        elif limit.limit != 1:
            sound = False
            says = f"the GPU slot {name} lets {limit.limit} processes share one GPU"
            yield Finding(Check("fail", says, _REPAIR), _setting(name, limit=1))
        elif limit.active_slots and not _runs():
            sound = False
            says = f"the GPU slot {name} is held, though no run is under way"
            if _is_leaked(limit):
                yield Finding(Check("warn", says, _REPAIR), _setting(name, active_slots=0))
            else:
                yield _warning(says, f"a lease ends within {LEASE_SECONDS} s; wait, and look again")
    if sound:
        yield Finding(Check("ok", f"GPU slots: {', '.join(names) or 'none, for a pod has its GPUs to itself'}"))


def _automations() -> Iterator[Finding]:
    found = differing_automations()
    for name, what in found:
        says = f"automation '{name}' {what}: crashed runs may stay so"
        if what == OFF:  # a person's decision is not undone
            yield _warning(says, "switch it on in the UI")
        else:
            yield Finding(Check("warn", says, _REPAIR), ensure_automations)
    if not found:
        yield Finding(Check("ok", "automations that restart crashed runs are in place"))


def _deployments() -> Iterator[Finding]:
    if newer := newer_deployments():
        yield _warning(f"deployed by a newer version: {', '.join(newer)}", "upgrade this installation to that version")
    elif missing := missing_deployments():
        says = f"not deployed, or from an older version: {', '.join(missing)}"
        yield Finding(Check("warn", says, f"{_REPAIR}, or {_SERVE}"), deploy)
    else:
        yield Finding(Check("ok", "every flow is deployed"))


def _warning(says: str, remedy: str) -> Finding:
    return Finding(Check("warn", says, remedy))


def _setting(name: str, **values: Any) -> Callable[[], object]:
    def change() -> None:
        with get_client(sync_client=True) as client:
            client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(**values))

    return change


def _limit(name: str) -> GlobalConcurrencyLimitResponse | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return None


def _is_leaked(limit: GlobalConcurrencyLimitResponse) -> bool:
    """Whether nothing can hold the slot any more.

    A lease that still runs, or a process whose run the server takes for dead, would give a slot back that another
    holds by then.
    """
    changed = limit.updated or datetime.now(UTC)
    return datetime.now(UTC) - changed > timedelta(seconds=2 * LEASE_SECONDS) and not run_ids(psutil.process_iter())


def _runs() -> bool:
    """Whether any flow run is under way, that could hold a slot."""
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    under_way = FlowRunFilter(state=FlowRunFilterState(type=states))
    with get_client(sync_client=True) as client:
        return bool(client.read_flow_runs(flow_run_filter=under_way, limit=1))
