"""GPU slots: held while the work runs, given back however it ends, and no hindrance where there are none."""

import pytest
from prefect.client.orchestration import get_client

from tasks.slots import gpu_slot


def active(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


def test_slot_is_held_while_the_work_runs(prefect_harness: None) -> None:
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("gpu-test", 1)
    with gpu_slot("gpu-test"):
        assert active("gpu-test") == 1
    assert active("gpu-test") == 0
    with pytest.raises(ZeroDivisionError), gpu_slot("gpu-test"):
        _ = 1 / 0
    assert active("gpu-test") == 0


def test_a_limit_that_does_not_exist_holds_nothing_up(prefect_harness: None) -> None:
    with gpu_slot("gpu-of-nobody"):
        pass
