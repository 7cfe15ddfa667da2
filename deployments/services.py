"""The processes of `photo-enhancer serve`: what each runs, with which environment, and whether it answers."""

import hashlib
import os
import platform
import socket
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from deployments.catalogue import RUN_SETTINGS
from deployments.pools import GPU, LIGHT
from deployments.server import HOST, Server
from deployments.supervisor import Service
from lora_core.doctor import silence_of
from lora_core.errors import ResourceError
from lora_core.files import write_text
from lora_core.storage.places import ROOT

LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""Keeps the leases of slots on disk: those held while the server restarts run out; in memory they would never."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Attributes:
        port: of the server; None: as configured, or 4200.
        pages_port: of our own pages; None: the server's + 1.
        tensorboard_port: of TensorBoard; None: the server's + 2.
        gpus: GPU runs at once, on all machines; None: as many as there are GPUs, at least one.
        no_pages: without our own pages.
        no_tensorboard: without TensorBoard.
    """

    port: int | None = None
    pages_port: int | None = None
    tensorboard_port: int | None = None
    gpus: int | None = None
    no_pages: bool = False
    no_tensorboard: bool = False


@dataclass(frozen=True)
class Layout:
    """What is served where.

    Attributes:
        root: the folder under which the workspaces lie.
        server: the Prefect server.
        wish: what the user asked for.
    """

    root: Path
    server: Server
    wish: Wish

    @property
    def pages(self) -> int | None:
        """Port of our own pages; None: without."""
        return None if self.wish.no_pages else self.wish.pages_port or self.server.port + 1

    @property
    def tensorboard(self) -> int | None:
        """Port of TensorBoard; None: without."""
        return None if self.wish.no_tensorboard else self.wish.tensorboard_port or self.server.port + 2

    @property
    def pages_address(self) -> str:
        """Where a browser finds our own pages; empty: nowhere."""
        return f"http://{HOST}:{self.pages}" if self.pages else ""

    @property
    def tensorboard_address(self) -> str:
        """Where a browser finds TensorBoard; empty: nowhere."""
        return f"http://{HOST}:{self.tensorboard}" if self.tensorboard else ""

    def environment(self) -> dict[str, str]:
        """What all processes get on top of the caller's environment: what must be so, and defaults.

        A default gives way to the caller's environment, and to what Prefect was told by an older name or in a profile.
        """
        said = {*os.environ, *get_current_settings().to_environment_variables(exclude_unset=True)}
        return {**{name: value for name, value in self._defaults().items() if name not in said}, **self._required()}

    def _defaults(self) -> dict[str, str]:
        return {
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "deployments.ordering",
            # Somebody else's page, open in the user's browser, must not start runs here.
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(self.server.origins),
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # Beside the workspaces: where several machines share them, a run that moves finds its rounds.
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(self.root / ".photo-enhancer" / "results"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # a run begins soon after it was asked for
        }

    def _required(self) -> dict[str, str]:
        served = {
            "PHOTO_ENHANCER_PAGES": self.pages_address,
            "PHOTO_ENHANCER_TENSORBOARD": self.tensorboard_address,
        }
        return {
            ROOT: str(self.root),
            **{name: address for name, address in served.items() if address},
            "PREFECT_API_URL": self.server.api,
            **RUN_SETTINGS,
            # `flows.console` has made this process quiet, for the terminal; these write log files.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        }

    def prefect_server(self) -> Service:
        """The Prefect server with its UI."""
        command = _module("prefect", "server", "start", "--host", HOST, "--port", str(self.server.port))
        return Service("server", command, self.server.api, lambda: _answers(f"{self.server.api}/health"))

    def own_pages(self) -> Service:
        """Reports, comparisons and champions."""
        command = _module("deployments.pages", "--root", str(self.root), "--port", str(self.pages))
        return Service("pages", command, self.pages_address, lambda: _answers(self.pages_address))

    def training_curves(self) -> Service:
        """TensorBoard over all workspaces; its loader in Rust would be one more process to end."""
        where = ("--logdir", str(self.root), "--host", HOST, "--port", str(self.tensorboard))
        command = _module("tensorboard.main", *where, "--load_fast", "false")
        return Service("tensorboard", command, self.tensorboard_address, lambda: _answers(self.tensorboard_address))

    def worker(self) -> Service:
        """Runs what only coordinates."""
        return self._worker("worker", LIGHT)

    def gpu_worker(self) -> Service:
        """Runs what holds a GPU."""
        return self._worker("gpu-worker", GPU)

    def _worker(self, name: str, pool: str) -> Service:
        label = worker_name(self.root)
        before = _heartbeats(pool, label)
        options = ("--pool", pool, "--type", "process", "--name", label)
        command = _module("prefect", "worker", "start", *options)
        return Service(name, command, "", lambda: _heartbeats(pool, label) > before, outlived=True)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def worker_name(root: Path) -> str:
    """A worker's name on the server: the machine and the folder, with what tells them from others of the same names.

    The same after a restart, for the runs of a dead worker are found by its name.
    """
    mark = hashlib.sha256(f"{_installation(get_current_settings().home)} {root}".encode()).hexdigest()[:8]
    return f"{platform.node() or 'localhost'} {root.name} {mark}"


@cache
def _installation(home: Path) -> str:
    """An id beside Prefect's own files: containers on two machines may have one host name and one folder."""
    file = home / "photo-enhancer-id"
    if not file.exists():
        write_text(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")


def require_free(port: int, option: str) -> None:
    """Refuses a port on which something listens already.

    Raises:
        ResourceError: it does.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ResourceError(f"port {port} is taken ({error.strerror}); give another one: {option} N") from error


def _answers(address: str) -> bool:
    return silence_of(address, timeout=2) is None


def _heartbeats(pool: str, name: str) -> list[datetime]:
    """When the worker of this name was last heard of by the server; empty: never."""
    try:
        with get_client(sync_client=True) as client:
            workers = client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return []
    return [worker.last_heartbeat_time for worker in workers if worker.name == name and worker.last_heartbeat_time]
