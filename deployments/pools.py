"""The two work pools: flows that only coordinate, and flows that hold a GPU.

Two, so that a parent that waits never takes the place of the child that it waits for. How many runs a pool has at once
is the pool's own limit and not the worker's: a worker of Prefect 3.8 with a limit of its own ends when a run that
crashed comes back to it at once.
"""

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

LIGHT = "photo-enhancer"
GPU = "photo-enhancer-gpu"
POOLS = {
    LIGHT: "Photo Enhancer: flows that coordinate others, check, report or wait for a person",
    GPU: "Photo Enhancer: flows that hold a GPU; the limit is the number of GPUs",
}
LIGHT_RUNS = 10
"""Light runs at once, in a new pool; change it in the UI."""


def missing_pools() -> list[str]:
    """The pools that the server lacks."""
    with get_client(sync_client=True) as client:
        return [name for name in POOLS if _read(client, name) is None]


def ensure_pools(gpus: int | None = None) -> list[str]:
    """Creates the pools that are missing; returns their names.

    A pool that is there keeps its type (GPU workers on Kubernetes), its pause and its light limit.

    Args:
        gpus: GPU runs at once; None: as many as the server has GPU slots.
    """
    created = []
    with get_client(sync_client=True) as client:
        limits = {LIGHT: LIGHT_RUNS, GPU: gpus or _gpu_slots(client)}
        for name, description in POOLS.items():
            pool = _read(client, name)
            if pool is None:
                client.create_work_pool(
                    WorkPoolCreate(
                        name=name,
                        type=ProcessWorker.type,
                        description=description,
                        concurrency_limit=limits[name],
                        # Else each of its workers writes it at its first start, and two at once lock the database.
                        base_job_template=ProcessWorker.get_default_base_job_template(),
                    )
                )
                created.append(name)
            elif name == GPU and pool.concurrency_limit != limits[name]:
                client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limits[name]))
    return created


def _gpu_slots(client: SyncPrefectClient) -> int:
    """GPUs of all machines, by their slots (`tasks.slots`); at least one."""
    names: list[str] = []
    while page := client.read_global_concurrency_limits(limit=200, offset=len(names)):  # it gives no more at once
        names += [limit.name for limit in page]
    return max(1, sum("-gpu-" in name for name in names))


def _read(client: SyncPrefectClient, name: str) -> WorkPool | None:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None
