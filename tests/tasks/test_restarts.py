"""A run that crashes for ever is not restarted for ever, and never runs twice on a host."""

import os
import subprocess
import sys
from uuid import uuid4

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Crashed, Running

from lora_core.errors import TrainingError
from tasks.restarts import RESTARTS, refuse_endless_restarts
from tests.waiting import wait

SLEEP = "import time; time.sleep(600)"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
NEW_START = "from tasks.restarts import end_earlier_start; print(end_earlier_start(report_seconds=3))"
# As a launcher that has the run's environment too, and something else of its own.
LAUNCHER = f"""
import subprocess, sys
beside = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
subprocess.run([sys.executable, "-c", {NEW_START!r}], check=True)
print("spared" if beside.poll() is None else "ended")
beside.kill()
"""


def test_the_run_after_the_last_restart_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_endless_restarts()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(RESTARTS))
    refuse_endless_restarts()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(RESTARTS + 1))
    with pytest.raises(TrainingError, match=f"started {RESTARTS + 1} times"):
        refuse_endless_restarts()


@pytest.mark.skipif(sys.platform == "win32", reason="the environment of another process cannot be read")
def test_a_new_start_ends_what_the_one_before_left_and_stays_running(prefect_server: None) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(name="twice")(lambda: None), state=Running())
        old, other = _start(WITH_CHILD, str(run.id)), _start(SLEEP, str(uuid4()))
        try:
            children = wait(psutil.Process(old.pid).children, "the start of the child")
            new = _start(LAUNCHER, str(run.id))
            old.wait(60)
            client.set_flow_run_state(run.id, Crashed(message="as the worker of the old process says"))
            assert new.communicate(timeout=60)[0].split() == ["2", "spared"]
            assert not children[0].is_running() and other.poll() is None
            assert client.read_flow_run(run.id).state.is_running()
        finally:
            for process in (old, other):
                process.kill()
                process.wait()


def _start(code: str, run: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": run, "PREFECT_API_URL": str(get_current_settings().api.url)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
