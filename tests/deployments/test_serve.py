"""`photo-enhancer serve`, really: server, workers, pages; a crashed run goes on; nothing is left at the end."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.runs import run_ids
from lora_core.errors import ResourceError
from lora_core.files import write_text
from tests.postgres import free_port
from tests.served import Served
from tests.waiting import wait

QUIET = ("--no-tensorboard",)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGTERM are POSIX's")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    one = Served(folder / "root")
    write_text(one.root / "work" / "experiment.yaml", "")
    one.up(*QUIET, "--retrain", str(one.root / "work"), "--when-changed", "60")
    with temporary_settings({PREFECT_API_URL: one.api}):
        yield one
    for process in [*one.processes(), one.process]:
        process.kill()


def test_everything_is_up(served: Served) -> None:
    said = served.said
    assert f"PREFECT_API_URL={served.api}" in said and "13 flows (13 new)" in said and "Reports" in said
    assert set(served.entries) == {"server", "worker", "gpu-worker", "pages"}
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment_by_name("retrain/retrain").schedules
        settings = client.request("GET", "/admin/settings").json()["server"]
    assert schedule.parameters["workspace"] == "work" and schedule.active
    assert settings["concurrency"]["lease_storage"].endswith(".filesystem")
    assert settings["events"]["causal_ordering"] == "deployments.ordering" and not settings["analytics_enabled"]


def test_a_schedule_is_for_a_workspace_of_the_folder(tmp_path: Path) -> None:
    one = Served(tmp_path / "root")
    write_text(tmp_path / "elsewhere" / "experiment.yaml", "")
    missing = one.refused("--retrain", "work", "--cron", "0 3 * * 0", "--timezone", "UTC")
    assert missing.returncode == 2 and "there is no experiment.yaml in" in missing.stderr
    outside = one.refused("--retrain", str(tmp_path / "elsewhere"), "--when-changed", "5")
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

    steps = []
    with _ends_by_signals():
        try:
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")
        finally:
            signal.raise_signal(signal.SIGTERM)
            steps.append("ended in order")
    assert steps == ["ended in order"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_on_the_same_root_is_refused(served: Served) -> None:
    refused = served.refused()
    assert refused.returncode == 3
    assert "is served already by another photo-enhancer serve" in refused.stderr


def test_a_run_whose_process_is_killed_starts_again_and_ends_well(served: Served) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(client.read_deployment_by_name("doctor/doctor").id)

        def now() -> FlowRun:
            return client.read_flow_run(run.id)

        wait(lambda: now().state.is_running(), "the start of the run", 180)
        for process in served.processes():
            if run.id in run_ids([process]):
                process.kill()
        wait(lambda: now().state.is_completed(), "the end of the run", 180)
        states = sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    steps = [state.name for state in states if state.name not in ("Scheduled", "Pending", "Submitting", "Late")]
    assert steps == ["Running", "Crashed", "AwaitingRetry", "Running", "Completed"], [
        (state.name, state.message) for state in states
    ]
    assert psutil.pid_exists(served.entries["worker"]["pid"]), "the worker outlived it"


def test_what_was_left_behind_is_used_or_ended_and_the_users_schedule_stays(served: Served) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("prepare/prepare")
        client.create_deployment_schedules(deployment.id, [(IntervalSchedule(interval=86400), True)])
        before = {name: served.entries[name]["pid"] for name in ("server", "worker", "gpu-worker", "pages")}
        served.process.kill()
        served.process.wait()
        assert psutil.pid_exists(before["worker"])
        served.up(*QUIET)
        assert "runs already, Prefect" in served.said
        assert served.entries["server"]["pid"] == before["server"]
        assert not {process.pid for process in served.processes()} & {before["worker"], before["gpu-worker"]}
        assert len(client.read_deployment_by_name("prepare/prepare").schedules) == 1
        assert len(client.read_deployment_by_name("retrain/retrain").schedules) == 1
    pages = served.entries["pages"]
    psutil.Process(pages["pid"]).kill()
    wait(lambda: served.entries["pages"]["pid"] != pages["pid"], "another start of the pages")
    wait(lambda: answers(pages["address"]), "the pages")


def test_one_signal_ends_everything(served: Served) -> None:
    processes = served.processes()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=120) == 0, served.said
    assert served.said.endswith("Stopped.\n")
    assert served.processes() == [] and len(processes) >= 4
    assert not answers(f"{served.api}/health")
    assert not (served.root / ".photo-enhancer" / "serve.json").exists()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True
