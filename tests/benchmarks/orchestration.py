"""What Prefect costs: importing a flow, starting a run, and a round of the demonstration beside the same round without.

    python tests/benchmarks/orchestration.py [--repeats 3]

The bare round calls the verbs of `lora_core` one after the other, in the processes that the flow starts too, and writes
the same report. Each repeat makes both rounds in fresh workspaces, and the one that came last first, so that a machine
that grows slower or quicker does so to both. A run starts where a worker takes it from a deployment, from the moment it
was asked for.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from machine import processor
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.catalogue import SERVED
from tests.prefect_server import PrefectServer, running_server
from tests.served import Served
from tests.waiting import wait

IMPORT_LIMIT, START_LIMIT, OVERHEAD_LIMIT = 1.5, 10.0, 0.05
BARE = """
import sys
from pathlib import Path
from flows.parameters import settle
from lora_core.preparation import check_workspace, degrade_workspace, match_pairs
from lora_core.report import write_report
from lora_core.rounds import begin_round, finish_round
from lora_core.scoring import score_round
from lora_core.sweep import sweep_round
from lora_core.training.launch import train_round
place, plan = settle(Path(sys.argv[1]))
space = check_workspace(place, plan, 1)
match_pairs(place, plan, degrade_workspace(place, plan), space)
begin_round(place, plan, 0)
train_round(place, plan, 0)
sweep_round(place, plan, 0)
score_round(place, plan, 0)
finish_round(place, plan, 0, {}, "asked for by hand")
write_report(place, plan)
"""
FLOW = """
import sys
from pathlib import Path
from flows.round import round_flow
round_flow(Path(sys.argv[1]))
"""


def import_seconds(module: str, repeats: int) -> float:
    """Median over fresh processes, without the interpreter's own start."""
    code = f"import time; begun = time.perf_counter(); import {module}; print(time.perf_counter() - begun)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def _ended(client: SyncPrefectClient, run: UUID) -> FlowRun | None:
    """The run once it is in a final state."""
    known = client.read_flow_run(run)
    return known if known.state is not None and known.state.is_final() else None


def start_seconds(root: Path, repeats: int) -> list[float]:
    """From asking for a run of report/report to its first state Running, under `photo-enhancer serve`."""
    stage = Served(root)
    stage.up()
    try:
        with temporary_settings({PREFECT_API_URL: stage.api}), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("report/report")
            seconds = []
            for _ in range(repeats):
                asked = time.time()
                run = client.create_flow_run_from_deployment(deployment.id, parameters={"workspace": "flow-0"})
                done = wait(partial(_ended, client, run.id), "a report", 120, every=0.3)
                assert done is not None
                assert done.state_name == "Completed" and done.start_time is not None, done.state
                seconds.append(done.start_time.timestamp() - asked)
        return seconds
    finally:
        stage.down()


def round_seconds(script: str, root: Path, server: PrefectServer) -> float:
    """A whole round in a fresh workspace, with the start of its process."""
    make = f"from pathlib import Path; from lora_core.demo import create_demo; create_demo(Path({str(root)!r}))"
    subprocess.run([sys.executable, "-c", make], check=True)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, root], env=server.environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    return seconds


def line(what: str, value: float, limit: float, unit: str) -> None:
    """A row of the table."""
    shown = f"{value:.1%}" if unit == "%" else f"{value:.2f} {unit}"
    told = f"{limit:.0%}" if unit == "%" else f"{limit:g} {unit}"
    print(f"{what:44} {shown:>9}   limit {told:6} {'kept' if value <= limit else 'MISSED'}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(f"{processor()}; {f'medians of {repeats}' if repeats > 1 else 'measured once'}\n")
    for served in SERVED:
        module = f"flows.{served.name}"
        line(f"import {module}", import_seconds(module, repeats), IMPORT_LIMIT, "s")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        times: dict[str, list[float]] = {"bare": [], "flow": []}
        with running_server(root / "home") as server:
            for repeat in range(repeats):
                for name, script in (("bare", BARE), ("flow", FLOW))[:: -1 if repeat % 2 else 1]:
                    times[name].append(round_seconds(script, root / "served" / f"{name}-{repeat}", server))
        bare, flow = (statistics.median(times[name]) for name in ("bare", "flow"))
        print(f"\nround without Prefect {bare:.1f} s ({', '.join(f'{one:.1f}' for one in times['bare'])})")
        print(f"round as a flow       {flow:.1f} s ({', '.join(f'{one:.1f}' for one in times['flow'])})")
        line("overhead of a demonstration round", flow / bare - 1, OVERHEAD_LIMIT, "%")
        start = statistics.median(start_seconds(root / "served", repeats))
        line("start of a run, deployment to Running", start, START_LIMIT, "s")


if __name__ == "__main__":
    main()
