"""Retraining: which study belongs to the photographs as they are now, and whether it is to be run.

The study is named after the photographs, so the same photographs are the same study: one that is finished stays as it
is, one that was interrupted goes on, and what is new becomes a study of its own.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lora_core.data.pairs import (
    dataset_digest,
    held_out_photographs,
    pairs_digest,
    prior_pairs,
    test_pairs,
    training_pairs,
    training_photographs,
)
from lora_core.errors import DataError, ResourceError, UserError
from lora_core.experiment import Experiment, with_values
from lora_core.files import read_json, value_digest, write_json
from lora_core.lineage import read_results
from lora_core.process import only_one
from lora_core.settings import NAME_LENGTH
from lora_core.workspace import StudyFolder, Workspace

When = Literal["photographs changed", "always"]
"""When there is something to do: only after the photographs changed, or at every time, with another seed."""


@dataclass(frozen=True)
class Retraining:
    """A study that a retraining began; `retraining.json` in its folder.

    Attributes:
        of: the experiment as it is written.
        name: of the study.
        photographs: their sha256.
        seed: that its rounds are drawn with.
        begun: UTC, as ISO 8601 has it.
        learns_from: the earlier study whose rounds its search starts from; None where none says anything of it.
        stopped: why its loop ended, in words; None until then.
    """

    of: str
    name: str
    photographs: str
    seed: int
    begun: str
    learns_from: str | None = None
    stopped: str | None = None

    @property
    def overrides(self) -> tuple[str, ...]:
        """What makes the experiment as it is written this study's."""
        learns = [f'tuning.warm_start=["{self.learns_from}"]'] if self.learns_from else []
        return (f"name={self.name}", f"seed={self.seed}", *learns)


def photographs_digest(workspace: Workspace, experiment: Experiment) -> str:
    """sha256 of the photographs, captions and masks; degraded twins count only where the user brings them.

    Raises:
        DataError: as `training_pairs`.
    """
    if experiment.degradation.preset == "own":
        parts = training_pairs(workspace, experiment), test_pairs(workspace, experiment)
    else:
        parts = training_photographs(workspace, experiment)[0], held_out_photographs(workspace, experiment)
    return value_digest([pairs_digest(part, workspace) for part in (*parts, prior_pairs(workspace, experiment))])


@contextmanager
def only_retraining(workspace: Workspace) -> Iterator[bool]:
    """Yields whether no other process retrains in this workspace; the others cannot begin until the block ends."""
    try:
        lock = only_one(workspace.output / ".retraining", timeout=0)
    except ResourceError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def still_changing(workspace: Workspace, experiment: Experiment, minutes: float) -> Path | None:
    """A file or folder of the photographs that changed less than so many minutes ago; None where all lie still."""
    own = experiment.degradation.preset == "own"
    twins = (workspace.degraded.parent, workspace.test_degraded) if own else ()
    now = time.time()
    for folder in (workspace.train, workspace.test, workspace.masks, workspace.prior, *twins):
        for path in _everything_in(folder):
            try:
                status = path.stat()
            except FileNotFoundError:
                return path  # it went while we looked
            # Copying may restore the time of the content; a time in the future says nothing.
            if any(0 <= now - then < 60 * minutes for then in (status.st_mtime, status.st_ctime)):
                return path
    return None


def plan_retraining(workspace: Workspace, experiment: Experiment, when: When) -> Retraining:
    """The study of the photographs as they are now: finished, begun or new.

    What `tune` made of the same photographs under the experiment's own name is that study too.

    Raises:
        DataError: as `photographs_digest`.
    """
    photographs = photographs_digest(workspace, experiment)
    of_these = [one for one in retrainings(workspace, experiment.name) if one.photographs == photographs]
    if of_these and (when == "photographs changed" or of_these[-1].stopped is None):
        return of_these[-1]
    name = f"{experiment.name[: NAME_LENGTH - 13]}-{photographs[:8]}"
    if not of_these and _was_tuned(workspace, experiment):
        name = experiment.name
    elif of_these:
        name += f"-{len(of_these) + 1}"
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Retraining(experiment.name, name, photographs, experiment.seed + len(of_these), now)


def begin_retraining(workspace: Workspace, experiment: Experiment, plan: Retraining) -> Retraining:
    """Writes down that it is begun, with the earlier study that it learns from; one that was begun stays as it is.

    Raises:
        ResourceError: it cannot be written.
    """
    file = workspace.study(plan.name).retraining
    if file.exists():
        return _read(file)
    begun = replace(plan, learns_from=_teacher(workspace, experiment, plan))
    write_json(file, asdict(begun))
    return begun


def end_retraining(workspace: Workspace, begun: Retraining, stopped: str) -> None:
    """Writes down that the study is finished and why its loop ended."""
    write_json(workspace.study(begun.name).retraining, asdict(replace(begun, stopped=stopped)))


def retrainings(workspace: Workspace, name: str) -> list[Retraining]:
    """The studies that retraining an experiment began, in order.

    Raises:
        DataError: a file is damaged.
    """
    files = (StudyFolder(folder).retraining for folder in workspace.output.glob("*"))
    found = [_read(file) for file in files if file.exists()]
    return sorted((one for one in found if one.of == name), key=lambda one: one.begun)


def _was_tuned(workspace: Workspace, experiment: Experiment) -> bool:
    """Whether the experiment was run under its own name, on these photographs."""
    results = read_results(workspace.study(experiment.name))
    try:
        return bool(results) and results[0]["dataset_digest"] == dataset_digest(workspace, experiment)
    except DataError:  # photographs without twins are new ones
        return False


def _teacher(workspace: Workspace, experiment: Experiment, plan: Retraining) -> str | None:
    """The newest earlier study whose rounds say something of this one's: scored alike, on the same test photographs."""
    if not experiment.tuning.dimensions or experiment.tuning.warm_start or plan.name == plan.of:
        return None
    try:
        test = pairs_digest(test_pairs(workspace, experiment), workspace)
    except DataError:  # new test photographs, whose twins are still to be made
        return None
    earlier = [one.name for one in reversed(retrainings(workspace, plan.of))]
    for name in dict.fromkeys([*earlier, plan.of]):
        results = read_results(workspace.study(name))
        if any(result["test_digest"] == test for result in results) and _teaches(workspace, experiment, plan, name):
            return name
    return None


def _teaches(workspace: Workspace, experiment: Experiment, plan: Retraining, name: str) -> bool:
    from lora_core.perceptual import choose_perceptual
    from lora_core.tuning.space import search_space
    from lora_core.tuning.warm import earlier_rounds

    learning = with_values(experiment, {"name": plan.name, "tuning.warm_start": [name]})
    try:
        earlier_rounds(workspace, learning, search_space(learning), choose_perceptual(learning.scoring).name)
    except UserError:  # it searched or scored otherwise
        return False
    return True


def _everything_in(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield Path(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files)


def _read(file: Path) -> Retraining:
    try:
        return Retraining(**read_json(file))
    except TypeError as error:
        raise DataError(f"{file} is damaged ({error}); delete it, and the photographs count as new") from error
