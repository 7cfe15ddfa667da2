"""A Prefect server as a process of its own, that a test can kill and start again on the same database."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.postgres import free_port
from tests.waiting import wait

_START_SECONDS = 120


class PrefectServer:
    """`prefect server start` on a free port.

    Attributes:
        address: of its API.
        home: PREFECT_HOME, where SQLite's database, results and leases are.
    """

    def __init__(self, home: Path, database: str | None = None) -> None:
        """`database` is PostgreSQL's address; None: SQLite in `home`."""
        self.home, self.port = home, free_port()
        self.address = f"http://127.0.0.1:{self.port}/api"
        home.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            **({"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait(self._answers, "the server's start", _START_SECONDS, every=0.1)

    def kill(self) -> None:
        """SIGKILL for the server and whatever it started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ends it, politely at first."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (
            f"the server ended: {(self.home / 'server.log').read_text()[-2000:]}"
        )
        try:
            urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
        except OSError:
            return False
        return True


@contextmanager
def running_server(home: Path, database: str | None = None) -> Iterator[PrefectServer]:
    """A server that runs within the block."""
    server = PrefectServer(home, database)
    server.start()
    try:
        yield server
    finally:
        drain()
        server.stop()


@contextmanager
def using(server: PrefectServer) -> Iterator[PrefectServer]:
    """This process talks to that server within the block."""
    with temporary_settings({PREFECT_API_URL: server.address}):
        yield server


def drain() -> None:
    """Sends the events and logs that this process still has, to the server that they are for.

    Prefect's worker for them keeps the server that it first met. Without that server it would try for a minute at exit.
    """
    EventsWorker.drain_all(timeout=30)
