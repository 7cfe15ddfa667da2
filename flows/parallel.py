"""Rounds at the same time: runs of the deployment round/round, a process each, which their GPU slots keep apart."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from lora_core.errors import ConfigError, TrainingError
from tasks.runs import patiently, start_run

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
            patiently(lambda: client.read_deployment_by_name(DEPLOYMENT))
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
    here = flow_run.root_flow_run_id or uuid4()  # the loop may be a subflow, which gets another id at each start
    started: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        try:
            for said, key in zip(rounds, keys, strict=True):
                started.append(start_run(DEPLOYMENT, said, f"{here} {key}"))
            ended = [_wait(client, run) for run in started]
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                if _is_cancelled(client):
                    _cancel(client, started)
            raise
    failed = [f"{run.name}: {state.name}: {state.message}" for run, state in ended if not state.is_completed()]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(started)} rounds did not complete ({'; '.join(failed)})")


def _wait(client: SyncPrefectClient, run: FlowRun) -> tuple[FlowRun, State[Any]]:
    crashed_at: float | None = None
    while True:
        state = patiently(lambda: client.read_flow_run(run.id)).state
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
    for run in {flow_run.id, flow_run.root_flow_run_id} - {None}:
        state = client.read_flow_run(run).state
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            return True
    return False


def _cancel(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling())
        logger.info("Cancelled %s with the loop", run.name)
