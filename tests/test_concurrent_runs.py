"""Eight workers' worth of flow runs at once on one server: none is lost or stuck, and a slot has one holder."""

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterId

from tests.prefect_server import PrefectServer
from tests.waiting import wait

WORKERS, RUNS, TASKS = 8, 3, 3
SCRIPT = f"""
import sys, time
from pathlib import Path
from prefect import flow, task
from tasks import slots
slots.gpu_count, slots.POLL_SECONDS = (lambda: 0), 0.2

@task
def step(number):
    return number

@task
def on_the_gpu(journal):
    with slots.gpu_slot():
        with journal.open("a") as file:
            file.write("in\\n")
        time.sleep(0.05)
        with journal.open("a") as file:
            file.write("out\\n")

@flow(name="crowd")
def crowd(journal):
    assert [step(number) for number in range({TASKS})] == list(range({TASKS}))
    on_the_gpu(journal)

if __name__ == "__main__":
    for _ in range({RUNS}):
        crowd(Path(sys.argv[1]))
"""


def test_no_run_is_lost_or_stuck_and_one_at_a_time_holds_the_gpu(prefect_server: PrefectServer, tmp_path: Path) -> None:
    journal, script = tmp_path / "journal", tmp_path / "crowd.py"
    script.write_text(SCRIPT)
    environment = {**prefect_server.environment, "PHOTO_ENHANCER_HOST": "crowd", "PYTHONPATH": str(Path.cwd())}
    workers = [
        subprocess.Popen([sys.executable, script, journal], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, errors
    assert journal.read_text().splitlines() == ["in", "out"] * (WORKERS * RUNS), "never two holders at once"
    done = {"Completed": WORKERS * RUNS * (TASKS + 1)}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["crowd"])))
        assert Counter(run.state_name for run in runs) == {"Completed": WORKERS * RUNS}
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))

        def counts() -> Counter[str | None]:
            return Counter(one.state_name for one in client.read_task_runs(flow_run_filter=ours))

        with suppress(AssertionError):  # the server writes them from events, some seconds later
            wait(lambda: counts() == done, "the task runs", every=0.5)
        assert counts() == done
        assert client.read_global_concurrency_limit_by_name("crowd-gpu-0").active_slots == 0
