"""optuna-dashboard on demand: a process a study, on a free port of this machine."""

import importlib.util
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from lora_core.errors import ResourceError

MOST = 4
"""Dashboards at once; the one that was opened first makes room."""
START_SECONDS = 60.0
_END_SECONDS = 5


def is_installed() -> bool:
    """Whether the optional package is there."""
    return importlib.util.find_spec("optuna_dashboard") is not None


class Dashboards:
    """The dashboards of one page server; they end with it, however it ends."""

    def __init__(self, most: int = MOST, start_seconds: float = START_SECONDS) -> None:
        self._most, self._start_seconds = most, start_seconds
        self._running: dict[Path, tuple[subprocess.Popen[str], str]] = {}
        self._lock = threading.Lock()

    def address(self, journal: Path) -> str:
        """Where a study's dashboard answers; starts it where it is not running.

        Args:
            journal: the study's `study.log`.

        Raises:
            ResourceError: the dashboard does not start, or not in time.
        """
        with self._lock:
            child, address = self._running.get(journal, (None, ""))
            if child is None or child.poll() is not None:
                while len(self._running) >= self._most:
                    _end(self._running.pop(next(iter(self._running)))[0])
                self._running[journal] = child, address = _start(journal, self._start_seconds)
            return address

    def close(self) -> None:
        """Ends them all."""
        with self._lock:
            for child, _ in self._running.values():
                _end(child)
            self._running.clear()


def _start(journal: Path, seconds: float) -> tuple[subprocess.Popen[str], str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "deployments.pages.dashboard", str(journal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    overdue = threading.Timer(seconds, child.kill)
    overdue.start()
    port = child.stdout.readline().strip()  # printed when it listens; empty when it died
    overdue.cancel()
    if not port.isdecimal():
        _end(child)
        raise ResourceError(f"optuna-dashboard does not open {journal}; the log of the page server says why")
    return child, f"http://127.0.0.1:{port}/dashboard/studies/0"  # a journal of ours holds one study


def _end(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None and child.stdout is not None
    with suppress(OSError):
        child.stdin.close()
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
