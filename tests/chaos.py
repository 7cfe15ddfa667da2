"""A tuning loop of three rounds whose processes are killed at random, against the same loop left in peace.

    python tests/chaos.py --work FOLDER [--kills 24] [--seed 0]

`photo-enhancer serve` runs server and workers, a run of the deployment tuning/tuning is started, and from then on no
hand touches it: SIGKILL for the training or sweep process, the flow's process, a worker, the server, and now and then
for all but the server at once, as when a machine dies. At the end the tables, LoRAs and the champion must be those of
the undisturbed loop, no slot may be held, and no file that was whole when a process died may have been made again.
Prints a line a kill, and a table. Exit code 1 where anything differs.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

from lora_core.demo import write_demo_photographs
from lora_core.preparation import create_workspace
from lora_core.workspace import Workspace
from tests.served import Served
from tests.waiting import wait

ROUNDS = 3
SETTINGS = (
    "name=chaos",
    "data.test_limit=6",
    "training.epochs=6",
    "training.checkpoint_every=2",
    "training.state_every=16",
    "training.learning_rate=2.0e-4",
    f"tuning.rounds={ROUNDS}",
    f"tuning.patience={ROUNDS}",
    "tuning.prune=false",
)
VICTIMS = ("training or sweep", "flow", "worker", "server", "machine")
WEIGHTS = (8, 6, 4, 4, 2)
WHOLE = ("round-*/training/states/images-*/*.json", "round-*/checkpoints/*/*.safetensors", "cells/*/*.png")
ENDED = ("Completed", "Failed", "Cancelled")
"""Names of states from which nothing starts the run again."""
TIMEOUT = 3600.0
STUCK = 120.0
"""Seconds without a new file after which the next kill comes all the same."""


class Stage(Served):
    """What is served, and who may die in it."""

    def victims(self, kind: str, chance: random.Random) -> list[psutil.Process]:
        """Who dies together."""
        if kind == "server":
            return self.service("server")
        if kind == "worker":
            return _one([*self.service("worker"), *self.service("gpu-worker")], chance)
        if kind == "flow":
            return _one(self.running(_is_flow), chance)
        if kind == "training or sweep":
            return self.running(_is_work)
        everyone = self.running(_is_of_a_run)
        return [*self.service("worker"), *self.service("gpu-worker"), *everyone] if everyone else []


def _is_of_a_run(process: psutil.Process) -> bool:
    return "PREFECT__FLOW_RUN_ID" in process.environ()


def _is_flow(process: psutil.Process) -> bool:
    return any(part in ("prefect.engine", "prefect.flow_engine") for part in process.cmdline())


def _is_work(process: psutil.Process) -> bool:
    return any(part in ("lora_core.training.worker", "lora_core.sweep.worker") for part in process.cmdline())


def _one(processes: list[psutil.Process], chance: random.Random) -> list[psutil.Process]:
    """One of them, or none where there are none."""
    return [chance.choice(processes)] if processes else []


class Watch(threading.Thread):
    """Remembers when each saved state, checkpoint and picture was written; none should be written twice."""

    def __init__(self, study: Path) -> None:
        super().__init__(daemon=True)
        self.study, self.over = study, threading.Event()
        self.written: dict[str, set[int]] = defaultdict(set)

    def run(self) -> None:
        """Looks several times a second."""
        while not self.over.wait(0.3):
            for pattern in WHOLE:
                for path in self.study.glob(pattern):
                    try:
                        self.written[str(path.relative_to(self.study))].add(path.stat().st_mtime_ns)
                    except FileNotFoundError:
                        continue

    def repeated(self) -> list[str]:
        """What was made more than once."""
        return sorted(name for name, times in self.written.items() if len(times) > 1)


def prepare(root: Path) -> Workspace:
    """The loop's workspace: parts of the photographs that scikit-image ships, the pocket base."""
    photographs = root / "photographs"
    write_demo_photographs(photographs / "train", photographs / "test")
    create_workspace(root / "work", "pocket", photographs / "train", photographs / "test", assignments=SETTINGS)
    return Workspace(root / "work")


def made(workspace: Workspace) -> dict[str, bytes]:
    """All that decides what a user gets, by name."""
    study = workspace.study("chaos")
    files = [path for folder in study.rounds() for path in folder.checkpoints.rglob("*.safetensors")]
    for folder in study.rounds():
        files += [folder.table, folder.photo_table, folder.result, folder.diagnosis]
    files += [study.ledger, *workspace.champion.rglob("*.safetensors"), workspace.champion / "settings.json"]
    return {str(path.relative_to(workspace.root)): path.read_bytes() for path in files}


def start_run(stage: Stage) -> str:
    """A run of tuning/tuning, as the UI's button starts it."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("tuning/tuning")
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"workspace": "work"})
    return str(run.id)


def state_of(run: str) -> tuple[str, int]:
    """Its state's name and how often it was started; a server that is down has no answer."""
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(run)  # type: ignore[arg-type]
            return found.state_name or "", found.run_count
    except Exception:
        return "no answer", 0


def kill(stage: Stage, chance: random.Random) -> str | None:
    """Kills one of the kinds that is there now."""
    kind = chance.choices(VICTIMS, WEIGHTS)[0]
    victims = stage.victims(kind, chance)
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    return kind if victims else None


def moments_of(total: int, kills: int, chance: random.Random) -> list[int]:
    """After how many written files to kill: anywhere but at the very end, a quarter of them right after another."""
    apart = chance.sample(range(total * 19 // 20), kills - kills // 4)
    return sorted([*apart, *chance.choices(apart, k=kills // 4)])


def torment(stage: Stage, run: str, moments: Sequence[int], chance: random.Random, watch: Watch) -> Counter[str]:
    """Kills at those moments, seconds later where the loop is stuck or just there, and waits for its end."""
    counts: Counter[str] = Counter()
    began, state = time.monotonic(), ""
    for moment in moments:
        _wait_for_files(watch, moment, run)
        time.sleep(chance.uniform(0, 10))
        while (state := state_of(run)[0]) not in ENDED and (kind := kill(stage, chance)) is None:
            time.sleep(0.5)
        if state in ENDED:
            break
        counts[kind] += 1
        at = f"{time.monotonic() - began:6.0f} s, round {len(list(watch.study.glob('round-*'))) - 1}"
        print(
            f"{at}  kill {counts.total():2}  {kind:18} after {len(watch.written):4} files, run was {state}", flush=True
        )
    while state not in ENDED:
        if time.monotonic() - began > TIMEOUT:
            raise SystemExit(f"chaos: the loop did not end within {TIMEOUT:.0f} s; it is {state}")
        time.sleep(2)
        state = state_of(run)[0]
    print(f"{time.monotonic() - began:6.0f} s  {state}, started {state_of(run)[1]} times", flush=True)
    if state != "Completed":
        raise SystemExit(1)
    return counts


def _wait_for_files(watch: Watch, count: int, run: str) -> None:
    """Until so many were written, or none for `STUCK` seconds, or the loop has ended."""
    seen, mark = len(watch.written), time.monotonic()
    while (now := len(watch.written)) < count and state_of(run)[0] not in ENDED:
        if now > seen:
            seen, mark = now, time.monotonic()
        if time.monotonic() - mark > STUCK:
            return
        time.sleep(0.5)


def held_slots() -> dict[str, int]:
    """The slots that are still taken."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        limits = client.read_global_concurrency_limits(limit=200)
    return {limit.name: limit.active_slots for limit in limits if limit.active_slots}


def main() -> int:
    """The whole run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    peace, trouble = given.work.absolute() / "peace", given.work.absolute() / "trouble"
    undisturbed = prepare(peace)
    began = time.monotonic()
    calm = Watch(undisturbed.study("chaos").root)
    calm.start()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "tune", str(undisturbed.root)],
        env={**os.environ, "PREFECT_HOME": str(peace / "prefect")}, check=True,
    )  # fmt: skip
    calm.over.set()
    print(f"Undisturbed: {time.monotonic() - began:.0f} s, {len(calm.written)} files", flush=True)
    workspace = prepare(trouble)
    stage = Stage(trouble)
    stage.up()
    os.environ["PREFECT_API_URL"] = stage.api
    watch = Watch(workspace.study("chaos").root)
    watch.start()
    try:
        chance = random.Random(given.seed)
        moments = moments_of(len(calm.written), given.kills, chance)
        counts = torment(stage, start_run(stage), moments, chance, watch)
        wait(lambda: not held_slots(), "the release of the slots", 300, every=1)
    finally:
        watch.over.set()
        stage.down()
    wanted, got = made(undisturbed), made(workspace)
    differing = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    print(
        "\nKills      " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) + f": {counts.total()}"
    )
    print(f"Files      {len(wanted)} compared, {len(differing)} differ {differing[:5] or ''}")
    print(
        f"Repeated   {len(watch.repeated())} of {len(watch.written)} states, checkpoints and pictures were made twice"
    )
    print("Slots      none is held")
    for name in watch.repeated()[:5]:
        print(f"           {name}")
    left = stage.running(lambda _: True)
    print(f"Processes  {len(left)} left behind")
    return int(bool(differing or watch.repeated() or left or counts.total() < given.kills))


if __name__ == "__main__":
    sys.exit(main())
