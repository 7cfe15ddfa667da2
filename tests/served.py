"""`photo-enhancer serve` as a process of its own, with a Prefect home of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.postgres import free_port


class Served:
    """What is served, and its processes.

    Attributes:
        root: the folder under which the workspaces lie.
        ui: address of Prefect's pages.
        api: address of its API.
    """

    def __init__(self, root: Path) -> None:
        self.root, port = root, _free_ports(3)
        self.ui, self.api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/api"
        self.command = [sys.executable, "-m", "deployments.cli", "serve", str(root), "--port", str(port)]
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
            "PREFECT_HOME": str(root / "prefect"),
        }
        self.log = root / "serve.log"

    def up(self) -> None:
        """Starts it and waits for its addresses."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        wait(lambda: self.process.poll() is not None or "In another terminal" in self.log.read_text(), "serve", 300)
        assert self.process.poll() is None, self.log.read_text()

    def down(self) -> None:
        """Ends it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)

    def service(self, name: str) -> list[psutil.Process]:
        """The process of one of its services, as serve.json has it."""
        known = json.loads((self.root / ".photo-enhancer" / "serve.json").read_text()).get(name)
        try:
            return [psutil.Process(known["pid"])] if known and known["pid"] else []
        except psutil.NoSuchProcess:
            return []

    def running(self, belongs: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
        """Processes that it or a child of it started and that answer to a description."""
        return [one for one in psutil.process_iter() if _answers(lambda one=one: self._ours(one) and belongs(one))]

    def _ours(self, process: psutil.Process) -> bool:
        return process.environ().get("PHOTO_ENHANCER_ROOT") == str(self.root)


def wait(until: Callable[[], Any], what: str, seconds: float) -> None:
    """Asks again and again, a few times a second."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"{what} took more than {seconds:.0f} s"
        time.sleep(0.3)


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    import socket

    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first


def _answers(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except psutil.Error:
        return False
