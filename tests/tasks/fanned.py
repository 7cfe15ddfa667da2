"""Tasks to be fanned out; workers import them from here."""

import os
import time
from pathlib import Path

from prefect import flow, task

from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.process import run_in_process
from lora_core.sections.execution import ExecutionSection
from lora_core.share import Share
from lora_core.workspace import Workspace
from tasks.degrade import degrade
from tasks.fan_out import Assignment, _ended, fan_out
from tasks.retries import retry_may_help
from tasks.score import score
from tasks.sweep import sweep
from tests.waiting import wait


@task(retries=2, retry_delay_seconds=0, retry_condition_fn=retry_may_help)
def dies_once(folder: Path, assignment: Assignment) -> str:
    """Its process is killed the first time, for part 1 alone."""
    with assignment.begun() as share:
        deaths = 1 if share.index == 1 else 0
        run_in_process("tests.tasks.mortal", [str(folder / f"{share}.txt"), str(deaths)], folder / str(share))
        return str(share)


def _mistake_of_the_first(share: Share, sign: Path) -> None:
    """Fails in part 0, once the other part gave its sign."""
    if share.index == 0:
        wait(sign.exists, "the other part")
        raise DataError("photo.png cannot be read; replace it")


@task(retries=2, retry_delay_seconds=0, retry_condition_fn=retry_may_help)
def fails(folder: Path, assignment: Assignment) -> None:
    """Part 0 is a mistake once part 1 waits for a process that would go on for long."""
    with assignment.begun() as share:
        _mistake_of_the_first(share, folder / "pid")
        (folder / f"begun-{share.index}").touch()
        run_in_process("tests.tasks.sleeper", [str(folder / "pid")], folder / str(share))


@task
def fails_beside_one_that_waits(folder: Path, assignment: Assignment) -> None:
    """Part 0 is a mistake once part 1 waits for a GPU, which nobody gives back."""
    with assignment.begun() as share:
        _mistake_of_the_first(share, folder / "waits")
        (folder / "waits").touch()
        with assignment.own_gpu():
            (folder / "begun").touch()


@task
def fails_beside_one_that_begins(folder: Path, assignment: Assignment) -> None:
    """Part 0 is a mistake while part 1 is about to start its process, when there is none yet to be ended."""
    with assignment.begun() as share:
        _mistake_of_the_first(share, folder / "begins")
        (folder / "begins").touch()
        wait(lambda: assignment.call in _ended, "the other part's mistake")
        time.sleep(1)  # those that run are being ended
        run_in_process("tests.tasks.sleeper", [str(folder / "pid")], folder / str(share))


@task
def worker_dies_once(folder: Path, assignment: Assignment) -> int:
    """The worker itself is killed the first time."""
    with assignment.begun() as share:
        if share.index == 0 and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        return share.index


@flow
def fanned(name: str, folder: Path, execution: ExecutionSection) -> list[str]:
    """Fans a task of this module out."""
    return fan_out(globals()[name], execution, {"folder": folder})


@flow
def shared_round(workspace: Workspace, experiment: Experiment) -> str:
    """What a round shares out after its training."""
    sweep(workspace, experiment, 0)
    return str(score(workspace, experiment, 0)["winner"]["id"])


@flow
def twins(workspace: Workspace, experiment: Experiment) -> int:
    """Degrades a workspace."""
    return degrade(workspace, experiment)
