"""What keeps runs going, each part by itself on a real server: automations, schedules, rescue, examination."""

import asyncio
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect._internal.uuid7 import uuid7
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, get_current_settings, temporary_settings
from prefect.states import Cancelling, Completed, Crashed, Pending, Running

from deployments import catalogue as catalogue_module
from deployments import checks, runs
from deployments.automations import automations, differing_automations, ensure_automations
from deployments.catalogue import catalogue, deploy
from deployments.checks import operations
from deployments.ordering import CausalOrdering
from deployments.pools import GPU, ensure_pools
from deployments.runs import Rescue, give_back
from deployments.schedules import RETRAIN, Retraining, local_timezone, put_schedule
from deployments.server import find_server, server_version
from deployments.services import worker_name
from lora_core import __version__
from lora_core.errors import ConfigError, ResourceError
from tasks.slots import ensure_slots, slot_names


@pytest.fixture(scope="module")
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    ensure_pools()
    deploy([deployment for deployment in catalogue() if deployment.name in ("doctor", "retrain")])
    with get_client(sync_client=True) as one:
        yield one
        for automation in automations():
            for present in one.read_automations_by_name(automation.name):
                one.delete_automation(present.id)  # other tests use this server too


@pytest.fixture
def started(client: SyncPrefectClient) -> Callable[..., UUID]:
    """Starts a run of a deployment by hand, in the states given, and puts a worker's name on it."""

    def start(*states: object, worker: str = "here") -> UUID:
        run = client.create_flow_run_from_deployment(client.read_deployment_by_name("doctor/doctor").id)
        client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
        for state in (Pending(), *states):
            client.set_flow_run_state(run.id, state)
        return run.id

    return start


@pytest.fixture
def process_of() -> Iterator[Callable[[UUID], psutil.Process]]:
    """Starts a process as of a run."""
    begun = []

    def start(run: UUID) -> psutil.Process:
        environment = {**os.environ, "PREFECT__FLOW_RUN_ID": str(run)}
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment))
        return psutil.Process(begun[-1].pid)

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_only_runs_that_died_unseen_start_again(
    client: SyncPrefectClient, started: Callable[..., UUID], process_of: Callable[[UUID], psutil.Process]
) -> None:
    dead, alive, ended = started(Running()), started(Running()), started(Running(), Completed())
    foreign, fresh = started(Running(), worker="there"), started(Running(), Crashed())
    unbegun = started()
    processes = [process_of(alive)]
    patient = Rescue("here", lambda: processes)
    assert len(patient.look()) == 1
    states = {run: client.read_flow_run(run).state.name for run in (dead, alive, ended, foreign, fresh, unbegun)}
    assert states == {
        dead: "AwaitingRetry", alive: "Running", ended: "Completed", foreign: "Running", fresh: "Crashed",
        unbegun: "Pending",
    }  # fmt: skip
    killed = started(Crashed(message="Process exited with status code: -9. Process exited due to a SIGKILL signal."))
    broken = started(Crashed(message="Process exited with status code: 1."))
    later = started(Running())
    assert patient.look() == [], "its worker may be about to report it"
    assert len(patient.look()) == 1 and client.read_flow_run(later).state.name == "AwaitingRetry"
    assert len(Rescue("here", lambda: processes, hands_off=timedelta(0)).look()) == 3
    assert {client.read_flow_run(run).state.name for run in (fresh, unbegun, killed)} == {"AwaitingRetry"}
    assert client.read_flow_run(broken).state.name == "Crashed"
    reported = started(Running(), Crashed())
    assert len(give_back([uuid4(), alive, ended, reported])) == 2
    assert client.read_flow_run(ended).state.name == "Completed"
    assert client.read_flow_run(reported).state.name == "AwaitingRetry"


def test_a_run_whose_worker_cannot_cancel_it_any_more_is_cancelled(
    client: SyncPrefectClient,
    started: Callable[..., UUID],
    process_of: Callable[[UUID], psutil.Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "_PAGE", 1)
    left, gone, other = (started(Running(), Cancelling(), worker="ward") for _ in range(3))
    process, foreign = process_of(left), process_of(uuid4())
    rescue = Rescue("ward", lambda: [process, foreign])
    assert rescue.look() == [] and process.is_running(), "its worker has time to do it"
    assert Rescue("ward", lambda: [process, foreign], hands_off=timedelta(0)).look() == []
    assert {client.read_flow_run(run).state.name for run in (left, gone, other)} == {"Cancelled"}
    assert process.wait(30) is not None and foreign.is_running()


def test_a_worker_is_named_after_its_machine_and_its_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (worker_name(tmp_path / name / "work") for name in "ab")
    assert one != other and worker_name(tmp_path / "a" / "work") == one and " work " in one
    with temporary_settings({PREFECT_HOME: tmp_path / "home"}):
        assert worker_name(tmp_path / "a" / "work") != one, "another container of that host name and folder"


def test_automations_are_installed_once_and_mended(client: SyncPrefectClient) -> None:
    assert len(ensure_automations()) == len(automations())
    assert ensure_automations() == [] and differing_automations() == []
    silent, crashed = (client.read_automations_by_name(one.name)[0] for one in automations()[:2])
    client.update_automation(silent.id, automations(silence=timedelta(minutes=9))[0])
    client.pause_automation(crashed.id)
    assert differing_automations() == [
        (silent.name, "is not as this version wants it"),
        (crashed.name, "is switched off"),
    ]
    assert ensure_automations() == [silent.name]
    assert client.read_automations_by_name(crashed.name)[0].enabled is False, "a person's decision"
    client.resume_automation(crashed.id)
    assert differing_automations() == []


def test_schedules_are_set_once_and_changed(client: SyncPrefectClient) -> None:
    weekly = Retraining("My Work", cron="0 3 * * 0", timezone="Europe/Berlin")
    assert put_schedule(weekly) and not put_schedule(weekly)
    assert put_schedule(Retraining("My Work", minutes=30))
    assert not put_schedule(Retraining("My Work", minutes=60))
    found = {one.slug: one for one in client.read_deployment_by_name(RETRAIN).schedules}
    assert found.keys() == {"my-work-cron", "my-work-when-changed"}
    assert found["my-work-cron"].parameters == {"workspace": "My Work", "when": "always"}
    assert found["my-work-when-changed"].schedule.interval == timedelta(hours=1)
    with pytest.raises(ConfigError, match=r"'every night'.*for example"):
        Retraining("work", cron="every night").schedule()
    with pytest.raises(ConfigError, match="Middle/Earth"):
        Retraining("work", cron="0 3 * * 0", timezone="Middle/Earth").schedule()


def test_the_time_zone_is_this_machines_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert local_timezone() == "Europe/Berlin"
    for unknown in ("CET-1CEST", "/etc/passwd"):
        monkeypatch.setenv("TZ", unknown)
        with pytest.raises(ConfigError, match="--timezone"):
            local_timezone()


def test_doctor_finds_and_mends(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_ENHANCER_HOST", "ward")
    (slot,) = slot_names()[:1]
    api = str(get_current_settings().api.url)
    ensure_automations()
    client.delete_automation(client.read_automations_by_name(automations()[1].name)[0].id)
    for deployment in client.read_deployments():  # of other tests
        client.delete_deployment(deployment.id)
    found = {check.says: check.status for check in operations(api)}
    assert found[f"the GPU slot {slot} is missing on the server"] == "fail"
    assert any(says.startswith("automation") and says.endswith("crashed runs may stay so") for says in found)
    assert any("not deployed" in says and "tuning/tuning" in says for says in found)
    assert any(says.startswith("no worker for") for says in found)
    mended = [check.says for check in operations(api, repair=True) if check.says.startswith("mended")]
    assert len(mended) == 3
    assert all(check.status != "fail" for check in operations(api))
    client.update_global_concurrency_limit(slot, GlobalConcurrencyLimitUpdate(limit=3))
    assert any("lets 3 processes share" in check.says for check in operations(api))
    list(operations(api, repair=True))
    assert client.read_global_concurrency_limit_by_name(slot).limit == 1


def test_doctor_frees_a_slot_only_when_nothing_can_hold_it(
    client: SyncPrefectClient, process_of: Callable[[UUID], psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTO_ENHANCER_HOST", "leaky ward")
    monkeypatch.setattr(checks, "_runs", lambda: False)  # other tests leave some
    (slot,) = ensure_slots()[:1]
    api = str(get_current_settings().api.url)

    def held() -> int:
        list(operations(api, repair=True))
        return client.read_global_concurrency_limit_by_name(slot).active_slots

    client.update_global_concurrency_limit(slot, GlobalConcurrencyLimitUpdate(active_slots=1))
    assert held() == 1, "a lease may still end"
    monkeypatch.setattr(checks, "LEASE_SECONDS", -60)
    process = process_of(uuid4())
    monkeypatch.setattr(psutil, "process_iter", lambda: [process])  # other tests' processes are none of its business
    assert held() == 1, "its run may be taken for dead"
    process.kill()
    process.wait()
    assert held() == 0
    client.update_global_concurrency_limit(slot, GlobalConcurrencyLimitUpdate(active=False, limit=2))
    says = [check.says for check in operations(api, repair=True)]
    assert f"the GPU slot {slot} is switched off: any number of processes share one GPU" in says
    assert not client.read_global_concurrency_limit_by_name(slot).active, "a person's decision"


def test_doctor_does_not_undo_a_newer_version(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "__version__", "0.0.1")
    says = {check.says: check.status for check in operations(str(get_current_settings().api.url), repair=True)}
    assert any(one.startswith("deployed by a newer version: ") and "doctor/doctor" in one for one in says)
    assert client.read_deployment_by_name("doctor/doctor").version == __version__


def test_the_gpu_pool_has_a_place_for_each_gpu_of_all_machines(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("ward-a", "ward-b"):
        monkeypatch.setenv("PHOTO_ENHANCER_HOST", host)
        ensure_slots()
    ensure_pools()
    slots = [one for one in client.read_global_concurrency_limits(limit=200) if "-gpu-" in one.name]
    assert client.read_work_pool(GPU).concurrency_limit == len(slots) >= 2
    ensure_pools(gpus=1)
    assert client.read_work_pool(GPU).concurrency_limit == 1


def test_an_event_from_before_a_restart_holds_nothing_up() -> None:
    asyncio.run(_in_order())


async def _in_order() -> None:
    ordering = CausalOrdering(scope="test")
    lost, new = UUID("01a1ff0d-8bc6-7c11-b38b-0242c9473cd1"), uuid7()
    assert await ordering.event_has_been_seen(lost)
    assert not await ordering.event_has_been_seen(new)
    follower = ReceivedEvent(
        occurred=datetime.now(UTC),
        received=datetime.now(UTC) - timedelta(seconds=20),
        event="prefect.flow-run.Crashed",
        resource={"prefect.resource.id": "prefect.flow-run.1"},
        id=uuid7(),
        follows=new,
    )
    await ordering.record_follower(follower)
    assert await ordering.get_lost_followers() == [follower]
    assert await ordering.get_lost_followers() == []


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (200, '"3.4.0"', ResourceError, r"has version 3\.4\.0, and 3\.8\.8 is the oldest"),
        (404, "no", ConfigError, "is no Prefect server"),
        (200, "<html>", ConfigError, "is no Prefect server"),
        (401, "", ConfigError, "PREFECT_API_AUTH_STRING"),
    ],
)
def test_a_server_that_cannot_be_used(status: int, body: str, error: type[Exception], says: str) -> None:
    with answering(status, body) as api, temporary_settings({PREFECT_API_URL: api}):
        with pytest.raises(error, match=says):
            find_server()
        assert [check.status for check in operations(api)] == ["fail"]


def test_an_address_where_nothing_answers() -> None:
    with answering(200, '"3.8.8"') as api:
        assert server_version(api) == "3.8.8"
    with temporary_settings({PREFECT_API_URL: api}):
        assert find_server().version == "", "this machine: a server is started there"
        assert find_server(4711).api == "http://127.0.0.1:4711/api"
    with (
        temporary_settings({PREFECT_API_URL: "http://prefect.invalid:4200/api"}),
        pytest.raises(ConfigError, match="no Prefect server answers at PREFECT_API_URL"),
    ):
        find_server()
