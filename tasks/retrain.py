"""What a retraining looks at before it trains, and what it leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace

if TYPE_CHECKING:
    from lora_core.retraining import Retraining, When


@contextmanager
def only_retraining(workspace: Workspace) -> Iterator[bool]:
    """Yields whether no other process retrains in this workspace; the others cannot begin until the block ends."""
    workspace.output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.output / ".retraining.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@task(name="look for changing photographs", cache_policy=NO_CACHE)
def still_changing(workspace: Workspace, experiment: Experiment, minutes: float) -> Path | None:
    """A file that changed less than so many minutes ago, or None."""
    from lora_core import retraining

    return retraining.still_changing(workspace, experiment, minutes)


@task(name="look at the photographs", cache_policy=NO_CACHE)
def plan_retraining(workspace: Workspace, experiment: Experiment, when: "When") -> "Retraining":
    """The study that belongs to the photographs as they are now."""
    from lora_core import retraining

    return retraining.plan_retraining(workspace, experiment, when)


@task(name="begin the retraining", cache_policy=NO_CACHE)
def begin_retraining(workspace: Workspace, experiment: Experiment, plan: "Retraining") -> "Retraining":
    """Writes down that it is begun and what it learns from."""
    from lora_core import retraining

    return retraining.begin_retraining(workspace, experiment, plan)


@task(name="end the retraining", cache_policy=NO_CACHE)
def end_retraining(workspace: Workspace, begun: "Retraining", stopped: str) -> None:
    """Writes down that it is finished."""
    from lora_core import retraining

    retraining.end_retraining(workspace, begun, stopped)
