"""Keeps the processes of `photo-enhancer serve` alive, and ends them in order.

Each service is a process of its own whose output goes to a log file. One that ends is started again, later each time
it does not last. All are named in `<root>/.photo-enhancer/serve.json`, rewritten at every start, so that a successor
finds what a killed supervisor left behind.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lora_core.errors import ResourceError
from lora_core.files import write_json

MARK = "PHOTO_ENHANCER_SERVE"
"""In the environment of every process that a supervisor starts, and of theirs: the folder that it serves."""
LASTED = 60.0
"""A service that lived this many seconds is started again at once."""
LONGEST_WAIT = 30.0
PATIENCE = 120.0
"""Seconds until a service must be ready the first time."""
GRACE = 20.0
"""Seconds that a process has to end by itself."""
_LOG_BYTES = 10 * 2**20
_POLL = 0.2
_SAME_SECONDS = 2.0
"""By how much the start of one process may seem to differ: the system's clock is set now and then."""


@dataclass(frozen=True)
class Service:
    """A process to keep alive.

    Attributes:
        name: as in serve.json.
        command: what to run.
        address: where a browser or a client finds it; empty where it has none.
        ready: whether it answers; None: nobody asks.
        outlived: whether processes of its own may live on where it is killed, as a worker's flow runs do.
    """

    name: str
    command: Sequence[str]
    address: str = ""
    ready: Callable[[], bool] | None = None
    outlived: bool = False


@dataclass
class _Child:
    """A running service."""

    service: Service
    process: psutil.Process
    started: float
    wait: float = 0.0
    popen: subprocess.Popen[bytes] | None = None
    """None for a process of an earlier supervisor."""

    def ended(self) -> str | None:
        """How it ended, in words; None while it lives."""
        if self.popen is None:
            return "nobody knows how" if gone(self.process) else None
        code = self.popen.poll()
        if code is None:
            return None
        return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass
class Supervisor:
    """The services of one root; start them in order, `look` again and again, and `stop`, which ends them in reverse.

    Attributes:
        root: the folder that is served, and the working directory of all.
        environment: what all get on top of this process's own.
        say: shows one line to the user.
    """

    root: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entries of serve.json for what runs, but is not ours to end."""
    _children: dict[str, _Child] = field(default_factory=dict)
    _due: dict[str, tuple[float, _Child]] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where serve.json and the logs are."""
        return self.root / ".photo-enhancer"

    def log(self, name: str) -> Path:
        """The log file of a service."""
        return self.folder / f"{name}.log"

    def start(self, service: Service) -> None:
        """Starts a service; `wait_until_ready` waits for it."""
        self._launch(service, wait=0.0)

    def wait_until_ready(self, name: str) -> None:
        """Waits until a started service answers.

        Raises:
            ResourceError: it ended, or was not ready in time.
        """
        child = self._children[name]
        deadline = time.monotonic() + PATIENCE
        while child.service.ready is not None and not child.service.ready():
            if (how := child.ended()) is not None:
                raise ResourceError(f"{name} ended ({how}): {self._last_line(name)}")
            if time.monotonic() > deadline:
                raise ResourceError(f"{name} does not answer after {PATIENCE:.0f} s; see {self.log(name)}")
            time.sleep(_POLL)

    def adopt(self, service: Service, process: psutil.Process) -> None:
        """Takes over a process that an earlier supervisor left behind."""
        self._keep(_Child(service, process, time.monotonic()))

    def look(self) -> None:
        """Starts what is due, and plans the start of what has ended since the last look."""
        now = time.monotonic()
        for name, (when, before) in list(self._due.items()):
            if now >= when:
                del self._due[name]
                self._launch_again(name, before)
        for child in list(self._children.values()):
            if (how := child.ended()) is None:
                continue
            name = child.service.name
            del self._children[name]
            child.wait = 0.0 if now - child.started >= LASTED else _longer(child.wait)
            self._due[name] = (now + child.wait, child)
            soon = f"in {child.wait:.0f} s" if child.wait else "at once"
            self.say(f"{name} ended ({how}); it starts again {soon}. Its log: {self.log(name)}")

    def _launch_again(self, name: str, before: _Child) -> None:
        """Starts what is due; a disk that is full for a while must not end the others."""
        try:
            self._launch(before.service, wait=before.wait)
        except (OSError, ResourceError) as error:
            if name in self._children:  # it runs, but serve.json does not say so
                self.say(f"{self.folder / 'serve.json'} could not be written: {error}")
                return
            before.wait = _longer(before.wait)
            self._due[name] = (time.monotonic() + before.wait, before)
            self.say(f"{name} could not be started ({error}); again in {before.wait:.0f} s")

    def stop_workers(self) -> None:
        """Ends the services whose processes may outlive them, with those processes."""
        self._due.clear()
        workers = [child for child in self._children.values() if child.service.outlived]
        self._end(workers)
        end(marked(self.root, but={child.process.pid for child in self._children.values()}))

    def stop(self) -> None:
        """Ends everything: workers and what they run first, then the last started first."""
        self.stop_workers()
        for child in sorted(self._children.values(), key=lambda child: -self._order.index(child.service.name)):
            self._end([child])
        (self.folder / "serve.json").unlink(missing_ok=True)

    def _end(self, children: Sequence[_Child]) -> None:
        end([child.process for child in children])
        for child in children:
            if child.popen is not None:
                child.popen.wait()
            del self._children[child.service.name]

    def _launch(self, service: Service, wait: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.log(service.name)
        mode = "ab" if log.exists() and log.stat().st_size < _LOG_BYTES else "wb"
        with log.open(mode) as output:
            popen = subprocess.Popen(
                service.command,
                cwd=self.root,
                env={**os.environ, **self.environment, MARK: str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **_APART,
            )
        self._keep(_Child(service, psutil.Process(popen.pid), time.monotonic(), wait, popen))

    def _keep(self, child: _Child) -> None:
        self._children[child.service.name] = child
        if child.service.name not in self._order:
            self._order.append(child.service.name)
        self._write()

    def _write(self) -> None:
        entries = {
            name: {
                "pid": child.process.pid,
                "created": child.process.create_time(),
                "address": child.service.address,
                "log": str(self.log(name)),
            }
            for name, child in self._children.items()
        }
        write_json(self.folder / "serve.json", {**self.others, **entries})

    def _last_line(self, name: str) -> str:
        text = self.log(name).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(text) if line.strip()), "it said nothing")
        return f"{last} (its log: {self.log(name)})"


def _longer(wait: float) -> float:
    return min(LONGEST_WAIT, max(1.0, 2 * wait))


# A terminal sends Ctrl-C to all its processes; these must end in our order, not in its.
_APART: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if sys.platform == "win32"
    else {"start_new_session": True}
)


def left_behind(root: Path) -> dict[str, psutil.Process]:
    """The processes of an earlier supervisor of this root that still run, by service."""
    try:
        entries = json.loads((root / ".photo-enhancer" / "serve.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for name, entry in entries.items():
        with suppress(psutil.NoSuchProcess, KeyError, TypeError):
            process = psutil.Process(entry["pid"])
            same = abs(process.create_time() - entry["created"]) < _SAME_SECONDS  # else the number was given anew
            if same and not gone(process):
                found[name] = process
    return found


def marked(root: Path, but: set[int]) -> list[psutil.Process]:
    """The processes that descend from any supervisor of this root, wherever their parents went."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in {*but, os.getpid()} and process.environ().get(MARK) == str(root):
                found.append(process)
    return found


def end(processes: Sequence[psutil.Process]) -> None:
    """Ends processes politely, and those that are there after `GRACE` seconds for good, with their descendants."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            _ask(process)
    deadline = time.monotonic() + GRACE
    while (left := [process for process in processes if not gone(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL / 4)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            for one in [*process.children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()


def gone(process: psutil.Process) -> bool:
    """Whether a process ended; one that nobody waits for stays listed as a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _ask(process: psutil.Process) -> None:
    """SIGTERM; on Windows, where that would be a kill, the break of its process group."""
    if sys.platform == "win32":
        with suppress(OSError, ValueError):
            process.send_signal(signal.CTRL_BREAK_EVENT)
            return
    process.terminate()
