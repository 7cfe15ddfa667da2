"""Rounds at the same time: runs of the deployment round/round, a process each, which their GPU slots keep apart."""

import logging
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from lora_core.errors import ConfigError, TrainingError

DEPLOYMENT = "round/round"
POLL_SECONDS = 5.0
CRASH_PATIENCE = 600.0
"""Seconds in which an automation may start a crashed run again, before it counts as ended."""

logger = logging.getLogger(__name__)


def require_deployment(parallel: int) -> None:
    """Refuses rounds at the same time where nothing would run them.

    Raises:
        ConfigError: more than one at once, and no server that stays, or no deployment on it.
    """
    if parallel == 1:
        return
    way_out = "start one with: photo-enhancer serve; or set tuning.parallel=1"
    if get_current_settings().api.url is None:
        raise ConfigError(f"tuning.parallel is {parallel}, which needs a Prefect server that stays; {way_out}")
    try:
        with get_client(sync_client=True) as client:
            client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound as error:
        raise ConfigError(
            f"tuning.parallel is {parallel}, and the server has no deployment {DEPLOYMENT}; {way_out}"
        ) from error


def run_rounds(rounds: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    """Runs rounds as deployment runs and waits for all of them; started again, it finds the runs that it started.

    Args:
        rounds: the parameters of `flows.round.round_flow`.
        keys: what tells each from all others, its digest.

    Raises:
        TrainingError: one did not complete; the others have ended too.
    """
    here = flow_run.id or uuid4()
    with get_client(sync_client=True) as client:
        started = [
            cast(FlowRun, run_deployment(DEPLOYMENT, parameters=said, timeout=0, idempotency_key=f"{here} {key}"))
            for said, key in zip(rounds, keys, strict=True)
        ]
        try:
            ended = [_wait(client, run) for run in started]
        except BaseException:
            if _is_cancelled(client):
                _cancel(client, started)
            raise
    failed = [f"{run.name}: {state.name}: {state.message}" for run, state in ended if not state.is_completed()]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(started)} rounds did not complete ({'; '.join(failed)})")


def _wait(client: SyncPrefectClient, run: FlowRun) -> tuple[FlowRun, State[Any]]:
    crashed_at: float | None = None
    while True:
        state = client.read_flow_run(run.id).state
        assert state is not None
        if not state.is_crashed():
            crashed_at = None
            if state.is_final():
                return run, state
        elif crashed_at is None:
            crashed_at = time.monotonic()
        elif time.monotonic() - crashed_at > CRASH_PATIENCE:
            return run, state
        time.sleep(POLL_SECONDS)


def _is_cancelled(client: SyncPrefectClient) -> bool:
    """Whether a person cancelled the loop; a loop that is only killed leaves its rounds to its next start."""
    if flow_run.id is None:
        return False
    state = client.read_flow_run(flow_run.id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _cancel(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling())
        logger.info("Cancelled %s with the loop", run.name)
