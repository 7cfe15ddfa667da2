"""What a base training leaves on disk while it runs: logs, checkpoints within their budget, test images, its state."""

import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

from torch import Tensor

from lora_core.files import read_json, write_json, write_text
from lora_core.pretraining.course import Course
from lora_core.pretraining.loop import Hooks
from lora_core.pretraining.plateau import plateau
from lora_core.pretraining.pruning import to_delete
from lora_core.pretraining.state import State
from lora_core.pretraining.work import StageFolder
from lora_core.training.monitor import Monitor

log = logging.getLogger(__name__)
WARM_UP = 12
"""Updates that are timed before the run is estimated; the first four warm the machine and are left out."""


@dataclass
class Recorder:
    """The hooks of one stage on the main process.

    Attributes:
        save_checkpoint: writes a checkpoint folder for a number of images and epochs seen.
        save_samples: writes a picture of test images.
        estimated: called once with the median seconds of an update, before anything is saved.
    """

    folder: StageFolder
    course: Course
    state: State
    monitor: Monitor
    save_checkpoint: Callable[[Path, dict[str, Any]], object]
    save_samples: Callable[[Path], object]
    estimated: Callable[[float], object]
    times: list[float] = field(default_factory=list)
    mark: float = field(default_factory=time.monotonic)

    def hooks(self) -> Hooks:
        """The functions that the loop calls."""
        return Hooks(self._updated, self._validated, self._checkpoint, self._samples, self._save)

    def _updated(self, number: int, loss: Tensor, rate: float) -> None:
        self.monitor.update(number, {"loss": loss}, rate * self.course.training.learning_rate)
        if len(self.times) < WARM_UP:
            now = time.monotonic()
            self.times.append(now - self.mark)
            self.mark = now
            if len(self.times) == WARM_UP:
                self.estimated(statistics.median(self.times[4:]))

    def _validated(self, row: dict[str, Any]) -> None:
        self.monitor.flush()
        rows = self.state.validations
        before, now = (plateau([row["loss"] for row in rows[:end]], self.course.training) for end in (-1, None))
        write_text(self.folder.validations, "".join(json.dumps(row) + "\n" for row in rows))
        self.monitor.validated(row)
        if now.factor < before.factor:
            log.info(
                "epoch %g: no better for %d validations, the learning rate is halved (factor %g)",
                row["epoch"],
                now.waited,
                now.factor,
            )

    def _checkpoint(self, update: int) -> None:
        epoch = round(self.course.epoch(update))
        name = f"epoch-{epoch:06d}"
        trained = {"epochs": epoch, "images": self.course.images(update)}
        self.save_checkpoint(self.folder.checkpoints / name, trained)
        known = [row for row in self.checkpoints() if row["epoch"] < epoch]
        size = sum(file.stat().st_size for file in (self.folder.checkpoints / name).rglob("*") if file.is_file())
        row = {"epoch": epoch, "folder": name, "bytes": size, "loss": self.state.validations[-1]["loss"], **trained}
        self._prune([*known, row])

    def _prune(self, rows: list[dict[str, Any]]) -> None:
        gone = to_delete(rows, self.course.training.keep_gib)
        write_json(self.folder.index, [row for row in rows if row["epoch"] not in gone])
        for row in rows:
            if row["epoch"] in gone:
                log.info("checkpoint %s is deleted: training.keep_gib=%g", row["folder"], self.course.training.keep_gib)
                rmtree(self.folder.checkpoints / row["folder"])

    def checkpoints(self) -> list[dict[str, Any]]:
        """The checkpoints that are kept, by epoch."""
        rows: list[dict[str, Any]] = read_json(self.folder.index) if self.folder.index.exists() else []
        return rows

    def _samples(self, update: int) -> None:
        self.save_samples(self.folder.samples / f"epoch-{round(self.course.epoch(update)):06d}.png")

    def _save(self) -> None:
        self.monitor.flush()
        self.state.save(self.folder.state)

    def result(self, stopped: str) -> dict[str, Any]:
        """The part of the stage's manifest that every stage has."""
        state, course = self.state, self.course
        losses = [row["loss"] for row in state.validations]
        best = plateau(losses, course.training).best
        return {
            "stopped": stopped,
            "epochs": course.epoch(state.updates),
            "images": course.images(state.updates),
            "photos": course.photos,
            "seconds": state.seconds,
            "busy": 1 - state.waited / state.seconds if state.seconds else 1.0,
            "best_epoch": state.validations[best]["epoch"] if best is not None else None,
            "checkpoints": self.checkpoints(),
        }
