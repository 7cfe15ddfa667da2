"""`photo-enhancer serve` as a process of its own, with a Prefect home of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from deployments.supervisor import marked
from tests.postgres import free_port
from tests.waiting import wait


class Served:
    """What is served, and its processes.

    Prefect's home and the output lie beside the root, which holds nothing but what is served.

    Attributes:
        root: the folder under which the workspaces lie.
        ui: address of Prefect's pages.
        api: address of its API.
        log: what it says; `up` begins it anew.
    """

    def __init__(self, root: Path) -> None:
        self.root, port = root, _free_ports(3)
        self.ui, self.api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/api"
        self.command = [sys.executable, "-m", "deployments.cli", "serve", str(root), "--port", str(port)]
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
            "PREFECT_HOME": str(root.with_name(f"{root.name}-prefect")),
        }
        self.log = root.with_name(f"{root.name}.log")

    def up(self, *options: str) -> None:
        """Starts it and waits for its addresses."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*self.command, *options], env=self.environment, stdout=log, stderr=log)
        wait(lambda: self.process.poll() is not None or "Ctrl-C ends everything" in self.said, "serve", 300)
        assert self.process.poll() is None, self.said

    def down(self) -> None:
        """Ends it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)

    def refused(self, *options: str) -> subprocess.CompletedProcess[str]:
        """One more start, which comes to its end."""
        return subprocess.run([*self.command, *options], env=self.environment, capture_output=True, text=True)

    @property
    def said(self) -> str:
        """Its output since the last start."""
        return self.log.read_text()

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Its services as serve.json has them."""
        known: dict[str, dict[str, Any]] = json.loads((self.root / ".photo-enhancer" / "serve.json").read_text())
        return known

    def service(self, name: str) -> list[psutil.Process]:
        """The process of one of its services."""
        known = self.entries.get(name)
        try:
            return [psutil.Process(known["pid"])] if known and known["pid"] else []
        except psutil.NoSuchProcess:
            return []

    def processes(self) -> list[psutil.Process]:
        """All that it started and what descends from them."""
        return marked(self.root, but=set())

    def running(self, belongs: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
        """Those of them that answer to a description."""
        return [one for one in self.processes() if _answers(partial(belongs, one))]


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
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
