"""`photo-enhancer serve`, really: server, workers, pages; a crashed run goes on; nothing is left at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.runs import run_ids
from deployments.supervisor import marked
from lora_core.errors import ResourceError
from lora_core.files import write_text

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGTERM are POSIX's")


class Served:
    """A running `photo-enhancer serve`."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.port = free_port()
        self.output = root.parent / "output.txt"
        self._environment = {**os.environ, "PREFECT_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
        self._environment.pop("PREFECT_API_URL", None)

    def command(self, *options: str) -> list[str]:
        ports = ["--port", str(self.port), "--pages-port", str(free_port())]
        return [sys.executable, "-m", "deployments.cli", "serve", str(self.root), "--no-tensorboard", *ports, *options]

    def start(self, *options: str) -> None:
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                self.command(*options), env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
        wait(lambda: "Ctrl-C ends everything" in self.output.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output.read_text()

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*options), env=self._environment, capture_output=True, text=True)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def entry(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / ".photo-enhancer" / "serve.json").read_text())[name]

    def processes(self) -> list[psutil.Process]:
        return marked(self.root, but=set())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    one = Served(folder / "root", folder / "home")
    write_text(one.root / "work" / "experiment.yaml", "")
    one.start("--retrain", str(one.root / "work"), "--when-changed", "60")
    with temporary_settings({PREFECT_API_URL: one.api}):
        yield one
    for process in [*one.processes(), one.process]:
        process.kill()


def test_everything_is_up(served: Served) -> None:
    said = served.output.read_text()
    assert f"PREFECT_API_URL={served.api}" in said and "13 flows (13 new)" in said and "Reports" in said
    assert {"server", "worker", "gpu-worker", "pages"} == set(
        json.loads((served.root / ".photo-enhancer" / "serve.json").read_text())
    )
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment_by_name("retrain/retrain").schedules
        settings = client.request("GET", "/admin/settings").json()["server"]
    assert schedule.parameters["workspace"] == "work" and schedule.active
    assert settings["concurrency"]["lease_storage"].endswith(".filesystem")
    assert settings["events"]["causal_ordering"] == "deployments.ordering" and not settings["analytics_enabled"]


def test_a_schedule_is_for_a_workspace_of_the_folder(tmp_path: Path) -> None:
    one = Served(tmp_path / "root", tmp_path / "home")
    write_text(tmp_path / "elsewhere" / "experiment.yaml", "")
    missing = one.run("--retrain", "work", "--cron", "0 3 * * 0", "--timezone", "UTC")
    assert missing.returncode == 2 and "there is no experiment.yaml in" in missing.stderr
    outside = one.run("--retrain", str(tmp_path / "elsewhere"), "--when-changed", "5")
    assert outside.returncode == 2 and "lies outside of" in outside.stderr
    assert not (tmp_path / "root").exists(), "nothing was started"


def test_a_port_that_is_taken_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.launch import Launch
    from deployments.services import Wish

    said: list[str] = []
    monkeypatch.setattr("deployments.launch.give_back", lambda runs: pytest.fail("asked a server"))
    environment = {**os.environ, "PHOTO_ENHANCER_SERVE": str(tmp_path), "PREFECT__FLOW_RUN_ID": str(uuid4())}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    with socket.socket() as taken, temporary_settings({PREFECT_API_URL: None}):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        launch = Launch(tmp_path, Wish(port=free_port(), pages_port=taken.getsockname()[1]), said.append)
        with pytest.raises(ResourceError, match="--pages-port"):
            launch.up()
        launch.down()
    assert left.poll() is None, "what an earlier one left behind goes on"
    left.kill()
    left.wait()


def test_only_the_first_signal_counts() -> None:
    from deployments.serve_command import _ends_by_signals

    ended = []
    with _ends_by_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            ended.append("in order")
    assert ended == ["in order"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_on_the_same_root_is_refused(served: Served) -> None:
    refused = served.run()
    assert refused.returncode == 3
    assert "is served already by another photo-enhancer serve" in refused.stderr


def test_a_run_whose_process_is_killed_starts_again_and_ends_well(served: Served) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(client.read_deployment_by_name("doctor/doctor").id)

        def now() -> FlowRun:
            return client.read_flow_run(run.id)

        wait(lambda: now().state.is_running())
        for process in served.processes():
            if run.id in run_ids([process]):
                process.kill()
        wait(lambda: now().state.is_completed())
        states = sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    steps = [state.name for state in states if state.name not in ("Scheduled", "Pending", "Submitting", "Late")]
    assert steps == ["Running", "Crashed", "AwaitingRetry", "Running", "Completed"], [
        (state.name, state.message) for state in states
    ]
    assert psutil.pid_exists(served.entry("worker")["pid"]), "the worker outlived it"


def test_what_was_left_behind_is_used_or_ended_and_the_users_schedule_stays(served: Served) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("prepare/prepare")
        client.create_deployment_schedules(deployment.id, [(IntervalSchedule(interval=86400), True)])
        before = {name: served.entry(name)["pid"] for name in ("server", "worker", "gpu-worker", "pages")}
        served.process.kill()
        served.process.wait()
        assert psutil.pid_exists(before["worker"])
        served.start()
        assert "runs already, Prefect" in served.output.read_text()
        assert served.entry("server")["pid"] == before["server"]
        assert not {process.pid for process in served.processes()} & {before["worker"], before["gpu-worker"]}
        assert len(client.read_deployment_by_name("prepare/prepare").schedules) == 1
        assert len(client.read_deployment_by_name("retrain/retrain").schedules) == 1
    pages = served.entry("pages")
    psutil.Process(pages["pid"]).kill()
    wait(lambda: served.entry("pages")["pid"] != pages["pid"])
    wait(lambda: answers(pages["address"]))


def test_one_signal_ends_everything(served: Served) -> None:
    processes = served.processes()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=120) == 0, served.output.read_text()
    assert served.output.read_text().endswith("Stopped.\n")
    assert served.processes() == [] and len(processes) >= 4
    assert not answers(f"{served.api}/health")
    assert not (served.root / ".photo-enhancer" / "serve.json").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True


def wait(what: Callable[[], object], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
