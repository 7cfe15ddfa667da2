"""Services are kept alive, told about, and ended with all that descends from them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.supervisor import Service, Supervisor, end, gone, left_behind, marked
from lora_core.errors import ResourceError
from tests.waiting import wait

SLEEP = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    said: list[str] = []
    one = Supervisor(tmp_path, {"COLOUR": "blue"}, said.append)
    yield one
    one.stop()
    end(marked(tmp_path, but=set()))


def pid(supervisor: Supervisor, name: str) -> int:
    return json.loads((supervisor.folder / "serve.json").read_text())[name]["pid"]


def python(name: str, code: str, **options: object) -> Service:
    return Service(name, [sys.executable, "-c", code], **options)  # type: ignore[arg-type]


def test_a_service_that_is_killed_starts_again_and_later_each_time(supervisor: Supervisor) -> None:
    supervisor.start(python("one", SLEEP))
    waits = []
    for _ in range(3):
        before = pid(supervisor, "one")
        psutil.Process(before).kill()
        wait(lambda: (supervisor.look(), supervisor._due)[1], "its end")
        _, child = supervisor._due["one"]
        waits.append(child.wait)
        supervisor._due["one"] = (0.0, child)  # its time has come
        supervisor.look()
        assert pid(supervisor, "one") != before
    assert waits == [1.0, 2.0, 4.0]


def test_a_service_that_cannot_be_started_for_a_while_ends_nothing_else(supervisor: Supervisor) -> None:
    for name in ("one", "other"):
        supervisor.start(python(name, SLEEP))
    other, log = pid(supervisor, "other"), supervisor.log("one")
    psutil.Process(pid(supervisor, "one")).kill()
    wait(lambda: (supervisor.look(), supervisor._due)[1], "its end")
    log.unlink()
    log.mkdir()  # stands for a full disk: the log cannot be opened
    waits = []
    for _ in range(2):
        supervisor._due["one"] = (0.0, supervisor._due["one"][1])  # its time has come
        supervisor.look()
        waits.append(supervisor._due["one"][1].wait)
    assert waits == [2.0, 4.0]
    log.rmdir()
    supervisor._due["one"] = (0.0, supervisor._due["one"][1])
    supervisor.look()
    assert psutil.pid_exists(pid(supervisor, "one")) and pid(supervisor, "other") == other


def test_what_a_service_leaves_behind_ends_with_the_rest(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("server", SLEEP))
    supervisor.start(python("worker", PARENT, outlived=True))
    wait(lambda: len(marked(tmp_path, but=set())) == 3, "their start")
    processes = marked(tmp_path, but=set())
    assert {process.environ()["COLOUR"] for process in processes} == {"blue"}
    worker = psutil.Process(pid(supervisor, "worker"))
    worker.kill()  # its child lives on
    wait(lambda: gone(worker), "the worker's end")
    supervisor.stop()
    assert all(gone(process) for process in processes)
    assert not (supervisor.folder / "serve.json").exists()


def test_a_successor_finds_and_adopts_what_a_killed_supervisor_left(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("server", SLEEP))
    found = left_behind(tmp_path)
    assert {name: process.pid for name, process in found.items()} == {"server": pid(supervisor, "server")}
    successor = Supervisor(tmp_path, {}, print)
    successor.adopt(python("server", SLEEP), found["server"])
    successor.stop()
    assert gone(found["server"])
    entry = {"server": {"pid": psutil.Process().pid, "created": 1.0}}  # a number that was given to another process
    (tmp_path / ".photo-enhancer" / "serve.json").write_text(json.dumps(entry))
    assert left_behind(tmp_path) == {}


def test_a_service_that_does_not_come_up_is_told_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start(python("pages", "print('port 4201 is taken'); raise SystemExit(3)", ready=lambda: False))
    with pytest.raises(ResourceError, match=r"pages ended \(exit code 3\): port 4201 is taken .*pages\.log"):
        supervisor.wait_until_ready("pages")
