"""GPU slots: held while the work runs, given back however it ends, and made where the server lacks them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from lora_core import process
from lora_core.process import run_in_process
from tasks import slots
from tasks.slots import ensure_slots, gpu_slot, has_slots, slot_names


def active(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


@pytest.fixture
def host(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A host of its own, without a GPU."""
    monkeypatch.setenv("PHOTO_ENHANCER_HOST", f"Box of {id(monkeypatch)}!")
    monkeypatch.setattr(slots, "gpu_count", lambda: 0)
    yield monkeypatch


def test_a_missing_slot_is_made_held_while_the_work_runs_and_given_back(host: pytest.MonkeyPatch) -> None:
    assert ensure_slots() == slot_names() and ensure_slots() == []
    (name,) = slot_names()
    assert name == f"box-of-{id(host)}-gpu-0"
    with gpu_slot():
        assert active(name) == 1
    assert active(name) == 0
    with pytest.raises(ZeroDivisionError), gpu_slot():
        _ = 1 / 0
    assert active(name) == 0


def test_of_processes_that_start_together_one_makes_the_slot(host: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    read = SyncPrefectClient.read_global_concurrency_limit_by_name

    def read_together(client: SyncPrefectClient, name: str) -> GlobalConcurrencyLimitResponse:
        try:
            return read(client, name)
        finally:
            together.wait(30)  # all have seen that it is missing before one makes it

    def make() -> list[str]:
        with temporary_settings({PREFECT_API_URL: url}):
            return ensure_slots()

    url = get_current_settings().api.url
    host.setattr(SyncPrefectClient, "read_global_concurrency_limit_by_name", read_together)
    with ThreadPoolExecutor(4) as pool:
        made = [future.result() for future in [pool.submit(make) for _ in range(4)]]
    assert sorted(made) == [[], [], [], slot_names()]


def test_a_pod_has_its_gpus_to_itself_and_leaves_no_slot(host: pytest.MonkeyPatch) -> None:
    host.setattr(slots, "gpu_count", lambda: 2)
    (first, _) = slot_names()
    host.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert not has_slots() and ensure_slots() == []
    with gpu_slot(), gpu_slot(2):
        assert process._visible_gpus() == {}, "all that the pod sees"
    with pytest.raises(ObjectNotFound):
        active(first)


def test_works_share_two_gpus_and_the_third_waits(host: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "gpu_count", lambda: 2)
    monkeypatch.setattr(slots, "POLL_SECONDS", 0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    began, seen = threading.Event(), []

    def third() -> None:
        with temporary_settings({PREFECT_API_URL: url}), gpu_slot(2):
            began.set()
            seen.append(process._visible_gpus())

    url = get_current_settings().api.url
    with gpu_slot():
        seen.append(process._visible_gpus())
        with gpu_slot():
            seen.append(process._visible_gpus())
            waiting = threading.Thread(target=third)
            waiting.start()
            assert not began.wait(1.0)
        assert not began.wait(1.0), "one of two free is not enough for work that wants both"
    waiting.join(30)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["5", "7", "5,7"]
    assert [active(name) for name in slot_names()] == [0, 0]


def test_without_a_server_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "ensure_slots", lambda: pytest.fail("asked for a server"))
    with temporary_settings({PREFECT_API_URL: None}), gpu_slot():
        assert process._visible_gpus() == {}


def test_a_child_sees_the_gpus_of_its_slot(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with process.on_gpus([1]):
        run_in_process("tests.tasks.environment", [str(tmp_path / "seen"), "CUDA_VISIBLE_DEVICES"], tmp_path)
    assert (tmp_path / "seen").read_text() == "1"
