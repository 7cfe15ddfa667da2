"""Runs of deployments, started once for a purpose, however often the one who starts them is started again."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from lora_core.storage import is_url
from tasks.root import root_folder

T = TypeVar("T")
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 2.0


def start_run(deployment: str, parameters: Mapping[str, Any], key: str, *, as_subflow: bool = True) -> FlowRun:
    """Starts a run and does not wait for it, or finds the one that was started with the same key.

    A run that failed or was cancelled gives its key back; a crashed one may be started again by an automation.

    Args:
        deployment: `<flow>/<deployment>`.
        parameters: of the flow.
        key: tells this purpose from all others.
        as_subflow: whether the UI shows it below the flow that runs now.

    Raises:
        ObjectNotFound: the server has no such deployment.
    """
    said = portable(parameters)
    for attempt in count():
        unique = f"{key} {attempt}" if attempt else key
        start = partial(run_deployment, deployment, parameters=said, timeout=0, as_subflow=as_subflow)
        run = cast(FlowRun, patiently(partial(start, idempotency_key=unique)))
        if run.state is None or not (run.state.is_failed() or run.state.is_cancelled()):
            return run
    raise AssertionError("unreachable: there is always another key")


def portable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a worker understands them: paths below its root, or else absolute; what is not said is left out.

    A worker's working directory is its root, wherever the command was given.
    """
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}
    return {
        name: _place(value) if name in ("workspace", "experiment") else value
        for name, value in said.items()
        if value is not None
    }


def patiently(call: Callable[[], T]) -> T:
    """Repeats a call to the server while nothing answers there: it may be starting again.

    Raises:
        httpx.TransportError: nothing answered for `PATIENCE_SECONDS`.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except httpx.TransportError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def _place(value: Any) -> str:
    if is_url(value):
        return str(value)
    place, root = Path(value).resolve(), root_folder()
    if root is not None and place.is_relative_to(root):
        return place.relative_to(root).as_posix()
    return str(place)
