"""One training at a time on one GPU, where a Prefect server keeps the slots."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

SLOT = "gpu-0"
LEASE_SECONDS = 120
"""A killed holder's slot is free again after this time; Prefect renews the lease of a live one."""


@contextmanager
def gpu_slot(name: str = SLOT) -> Iterator[None]:
    """Holds the global concurrency limit `name`; without a server, or without that limit on it, holds nothing.

    A renewal that fails does not end the work: a long training must outlive a server that restarts.
    """
    if not _limit_exists(name):
        yield
        return
    with concurrency(name, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield


def _limit_exists(name: str) -> bool:
    if get_current_settings().api.url is None:
        return False  # an ephemeral server knows no other process
    try:
        with get_client(sync_client=True) as client:
            client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        return False
    return True
