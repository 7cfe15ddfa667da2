"""One process a GPU, where a Prefect server keeps the slots: a global concurrency limit of one for each of a host's."""

import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import get_current_settings

from lora_core.process import gpu_count, on_gpus

LEASE_SECONDS = 60
"""A killed holder's slot is free again after this time, Prefect's shortest; the lease of a live one is renewed."""
POLL_SECONDS = 2.0
_LOCKED = 423
_POD = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""

logger = logging.getLogger(__name__)


@contextmanager
def gpu_slot(count: int = 1, still_wanted: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Holds slots of this host for the block, whose processes then see those GPUs alone.

    Without a server that stays there are no slots: its processes know of no others. A limit that is missing on the
    server is created. Neither a server that is starting again nor a renewal that fails ends the work.

    Args:
        count: GPUs that the work uses; at most all that the host has are taken.
        still_wanted: asked again and again while slots are waited for, and once they are held; raises to give up.
    """
    if not has_slots():
        yield
        return
    names = slot_names()
    size = min(count, len(names))
    groups = [range(first, first + size) for first in range(len(names) - size + 1)]
    with ExitStack() as held:
        indices = _first_free(held, names, groups, still_wanted)
        still_wanted()
        with on_gpus(indices if gpu_count() else ()):
            yield


def has_slots() -> bool:
    """Whether processes that know nothing of each other share this host's GPUs, by slots on a server that stays.

    In a pod none do: its GPUs are its own, given by the cluster, and slots of its name would never be asked for again.
    """
    return get_current_settings().api.url is not None and _POD not in os.environ


def slot_names() -> list[str]:
    """This host's slots, one a GPU and one where there is none; PHOTO_ENHANCER_HOST gives the host another name.

    A pod has none (`has_slots`).
    """
    if _POD in os.environ:
        return []
    host = re.sub(r"[^a-z0-9-]+", "-", (os.environ.get("PHOTO_ENHANCER_HOST") or platform.node()).lower()).strip("-")
    return [f"{host or 'localhost'}-gpu-{index}" for index in range(max(1, gpu_count()))]


def ensure_slots() -> list[str]:
    """Creates this host's limits that the server lacks, and returns their names; those that are there stay."""
    created = []
    with get_client(sync_client=True) as client:
        for name in slot_names():
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                with suppress(ObjectAlreadyExists):  # of processes that start together, one is first
                    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
                    created.append(name)
                    logger.info("Created the GPU slot %s on the server", name)
    return created


def _first_free(
    held: ExitStack, names: Sequence[str], groups: Sequence[Sequence[int]], still_wanted: Callable[[], object]
) -> Sequence[int]:
    """Enters the first group whose slots are all free, however long that takes, unless `still_wanted` raises."""
    told = False
    while True:
        still_wanted()
        for group in groups:
            if _take(held, [names[index] for index in group]):
                return group
        if not told:
            logger.info("Waiting for a GPU: %s", ", ".join(names))
            told = True
        time.sleep(POLL_SECONDS)


def _take(held: ExitStack, names: list[str]) -> bool:
    """Whether the slots were free; where nothing answers, the server may be starting again."""
    slots = concurrency(
        names, strict=True, max_retries=0, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False
    )
    try:
        if not _free(names):
            return False  # asking for a slot that is taken, Prefect logs an error each time
        held.enter_context(slots)
    except httpx.TransportError:
        return False
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        taken = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == _LOCKED
        if taken or isinstance(cause, httpx.TransportError):
            return False
        raise
    return True


def _free(names: Sequence[str]) -> bool:
    """Whether none is taken; those that the server lacks are created, and nobody has them yet."""
    try:
        with get_client(sync_client=True) as client:
            limits = [client.read_global_concurrency_limit_by_name(name) for name in names]
    except ObjectNotFound:
        ensure_slots()
        return True
    return all(limit.active_slots < limit.limit for limit in limits)
