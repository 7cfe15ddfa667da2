"""How far something is: a bar with the time left on a terminal, and progress artifacts on Prefect's pages."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lora_core.experiment import Experiment
from lora_core.progress import progress_in_words, read_progress, told_in
from lora_core.workspace import Workspace
from tasks.artifacts import artifact_key, harmless

LOOK_EVERY = 5.0
"""Seconds between two looks at what a process has told."""
_LAST_WORD = 5.0
"""Seconds that the end of a round waits for the last update."""


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is called with how many of `total` are done; a worker's log stays free of it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task(what, total=total)
        yield lambda done: bar.update(row, completed=done)


class ProgressArtifact:
    """One bar on Prefect's pages. A run that goes on later writes another version under the same key.

    Outside of a flow run there is nothing to show it with.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._id: UUID | None = None
        self._told: tuple[float, str] | None = None

    def tell(self, percent: float, words: str) -> None:
        """Shows how far it is; asked for the same again, asks nothing of the server. Never raises."""
        if self._told == (percent, words) or FlowRunContext.get() is None:
            return
        with harmless(self.key):
            if self._id is None:
                self._id = cast(UUID, create_progress_artifact(percent, key=self.key, description=words))
            else:
                update_progress_artifact(self._id, percent, description=words)
            self._told = (percent, words)


def rounds_artifact(workspace: Workspace, experiment: Experiment) -> Callable[[list[dict[str, Any]], str | None], None]:
    """A function that shows how far the loop is, from the results so far and why it stopped."""
    artifact = ProgressArtifact(artifact_key(workspace, experiment, "rounds"))

    def tell(results: list[dict[str, Any]], stopped: str | None) -> None:
        done, most = len(results), experiment.tuning.rounds
        words = f"{done} of at most {most} rounds" + (f". Stopped: {stopped}" if stopped else "")
        artifact.tell(100.0 if stopped else 100.0 * done / most, words)

    return tell


@contextmanager
def round_progress(
    workspace: Workspace, experiment: Experiment, number: int, every: float = LOOK_EVERY
) -> Iterator[None]:
    """Shows, as long as the block runs, how far the training, the sweep and the scoring of a round are.

    They tell it in files below the round's folder, from processes of their own; a thread here reads those.
    """
    folder = workspace.study(experiment.name).round(number).root
    artifact = ProgressArtifact(artifact_key(workspace, experiment, "progress"))
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            tell()
        tell()

    def tell() -> None:
        if progress := read_progress(folder):
            artifact.tell(round(progress.percent, 1), f"Round {number}: {progress_in_words(progress)}")

    thread = threading.Thread(target=copy_context().run, args=(look,), daemon=True)  # the run's context, for its links
    thread.start()
    try:
        with told_in(folder / "scoring"):
            yield
    finally:
        over.set()
        thread.join(_LAST_WORD)
