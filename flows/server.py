"""The Prefect server of one command, where none is configured."""

import signal
from concurrent.futures import ThreadPoolExecutor


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
