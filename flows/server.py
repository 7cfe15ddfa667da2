"""The Prefect server of one command, where none is configured."""

import importlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lora_core.errors import ResourceError


def flow_with_server(name: str) -> Callable[..., Any]:
    """The flow of a module, with a server to run on; one that cannot start would be waited for in vain.

    Raises:
        ResourceError: the server cannot be reached or cannot start.
    """
    from lora_core.doctor import check_server, check_server_versions

    for check in (check_server_versions(), check_server(server_address())):
        if check.status == "fail":
            raise ResourceError(check.line)
    start_own_server()
    flow: Callable[..., Any] = getattr(importlib.import_module(f"flows.{name}"), f"{name}_flow")
    return flow


def server_address() -> str | None:
    """The configured Prefect server; where Prefect does not even load, what the environment says."""
    try:
        from prefect.settings import get_current_settings

        return get_current_settings().api.url
    except Exception:  # the examination must speak in a broken installation
        return os.environ.get("PREFECT_API_URL")


def start_own_server() -> None:
    """Starts Prefect's temporary server so that Ctrl-C does not reach it; it is stopped when this process ends.

    A terminal sends Ctrl-C to every process of the command. A server that goes first leaves its flow without an
    address for its last words, and Prefect tries for minutes. A blocked signal is inherited, so the server is started
    from a thread that blocks it, while this thread stays open to it.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        ThreadPoolExecutor(1, initializer=_block_interrupts).submit(SubprocessASGIServer().start).result()


def _block_interrupts() -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
