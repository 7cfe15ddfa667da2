"""Every flow that is served, as a deployment: its work pool, form, version and limit.

`deployments/prefect.yaml` says the same in Prefect's own words; a test compares the two.
"""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, VersionInfo
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner.storage import LocalStorage
from prefect.types.entrypoint import EntrypointType

from deployments.pools import GPU, LIGHT
from flows import LOGGERS
from lora_core import __version__
from lora_core.doctor import release

TAG = "photo-enhancer"
HEARTBEAT_SECONDS = 30
"""Between two signs of life of a flow run; Prefect allows no less, and the automations wait for three."""
RUN_SETTINGS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # What Prefect stores is never a pickle. What it stores, each flow says: most results are files of ours.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
"""Environment of every run, whatever its worker's is: with rarer heartbeats a healthy run would count as dead."""
ENTER_ROOT: dict[str, Any] = {"deployments.root.enter_root": {}}
"""The pull step. The code is installed with the worker; only the working directory is to be found."""


@dataclass(frozen=True)
class Served:
    """A flow and how it is deployed.

    Attributes:
        name: of the flow and of its deployment; the flow is `flows.<name>.<name>_flow`.
        pool: the work pool.
        limit: one run at a time, and a new one that meets a running one is cancelled: late runs never pile up.
    """

    name: str
    pool: str = LIGHT
    limit: bool = False

    @property
    def entrypoint(self) -> str:
        """The module path of the flow."""
        return f"flows.{self.name}.{self.name}_flow"

    @property
    def flow(self) -> Flow[..., Any]:
        """The flow itself."""
        flow: Flow[..., Any] = getattr(importlib.import_module(f"flows.{self.name}"), f"{self.name}_flow")
        return flow


SERVED = (
    Served("tuning"),
    Served("round", GPU),
    Served("train", GPU),
    Served("sweep", GPU),
    Served("score", GPU),
    Served("init"),
    Served("prepare"),
    Served("report"),
    Served("promote"),
    Served("retrain", limit=True),
    Served("pretrain", GPU),
    Served("demo", GPU),
    Served("doctor"),
)


class _Root(LocalStorage):
    """No code to fetch, only the pull step."""

    def __init__(self) -> None:
        super().__init__(path=".")

    def to_pull_step(self) -> dict[str, Any]:
        return ENTER_ROOT


def deployment_of(served: Served) -> RunnerDeployment:
    """The deployment of one flow, for `prefect.serve` or a work pool."""
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    deployment = served.flow.to_deployment(
        name=served.name,
        tags=[TAG],
        version=__version__,
        description=description_of(served.flow),
        concurrency_limit=limit if served.limit else None,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # a coroutine only where an event loop runs
    # Else "no schedules, not paused" is sent each time, and what a person set in the UI is gone.
    deployment.model_fields_set.difference_update({"schedules", "paused"})
    return deployment


def description_of(flow: Flow[..., Any]) -> str:
    """What the flow does: the first line of its documentation; the form describes the parameters."""
    return inspect.cleandoc(flow.fn.__doc__ or "").partition("\n")[0]


def catalogue() -> list[RunnerDeployment]:
    """A deployment a flow, each for its work pool."""
    made = []
    for served in SERVED:
        deployment = deployment_of(served)
        deployment.work_pool_name = served.pool
        deployment.job_variables = {"env": dict(RUN_SETTINGS)}
        deployment.storage = _Root()
        made.append(deployment)
    return made


def deploy(deployments: Sequence[RunnerDeployment] | None = None) -> list[str]:
    """Creates the deployments or brings them up to date; returns the names of the new ones.

    What a person set in the UI stays: schedules, default parameters, a pause, a limit where we have none.
    """
    created = []
    for deployment in catalogue() if deployments is None else deployments:
        with get_client(sync_client=True) as client:
            present = _read(client, deployment.full_name)
        if present is None:
            created.append(deployment.full_name)
        else:
            _keep(deployment, present)
        # Without this, Prefect asks git for branch, commit and address, and stores them with the deployment.
        deployment.apply(version_info=VersionInfo(type="prefect:simple", version=__version__))
    return created


def missing_deployments() -> list[str]:
    """`<flow>/<deployment>` of every deployment that the server lacks or has from an older version."""
    return [
        name for name, one in _present().items() if one is None or (one.version != __version__ and not _is_newer(one))
    ]


def newer_deployments() -> list[str]:
    """`<flow>/<deployment>` of every deployment that comes from a newer version than this one."""
    return [name for name, one in _present().items() if one is not None and _is_newer(one)]


def _present() -> dict[str, DeploymentResponse | None]:
    names = [f"{served.name}/{served.name}" for served in SERVED]
    with get_client(sync_client=True) as client:
        return {name: _read(client, name) for name in names}


def _is_newer(deployment: DeploymentResponse) -> bool:
    return release(deployment.version or "") > release(__version__)


def _read(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _keep(deployment: RunnerDeployment, present: DeploymentResponse) -> None:
    known = deployment._parameter_openapi_schema.properties
    deployment.parameters = {name: value for name, value in present.parameters.items() if name in known}
    env = {**present.job_variables.get("env", {}), **RUN_SETTINGS}
    deployment.job_variables = {**present.job_variables, "env": env}
    deployment.tags = sorted({*deployment.tags, *present.tags})
    if deployment.concurrency_limit is None and present.global_concurrency_limit:
        deployment.concurrency_limit = present.global_concurrency_limit.limit
        deployment.concurrency_options = present.concurrency_options
