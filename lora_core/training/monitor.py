"""What is seen of a run: JSON lines, trackers, a progress bar, and the guard against a loss that is not finite.

Losses stay on the device until a line is written, so that no update waits for one.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_core.errors import LossError
from lora_core.progress import progress_bar
from lora_core.training.log import read_log, write_log
from lora_core.training.losses import TimestepBins
from lora_core.training.memory import used_memory
from lora_core.training.trackers import Trackers

LINE_EVERY = 8


class Monitor:
    """Collects the losses of the main process and writes a line every `LINE_EVERY` updates."""

    def __init__(
        self,
        log: Path,
        trackers: Trackers,
        *,
        images_per_update: int,
        images_per_epoch: int,
        updates: int,
        done: int,
        describe: Callable[[int], list[str]],
        first: int = 0,
        bins: TimestepBins | None = None,
    ):
        """`describe` names the files of an update; lines of a killed run past `done` updates are cut off.

        `first` images were seen by the weights before this run; `bins` collects losses by timestep.
        """
        self.images_per_update, self.images_per_epoch = images_per_update, images_per_epoch
        self.describe, self.first, self.updates, self.bins = describe, first, updates, bins
        self.log, self.trackers = log, trackers
        self.pending: list[tuple[int, dict[str, Tensor], float]] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        write_log(log, [row for row in read_log(log) if row["update"] <= done])
        self.bar = progress_bar("train", "update", updates, done)
        self.mark = time.monotonic()

    def update(self, number: int, parts: dict[str, Tensor], learning_rate: float) -> None:
        """Notes the parts of the mean loss of update `number`, counted from 1, by name; they add up to it."""
        self.pending.append((number, {name: part.detach() for name, part in parts.items()}, learning_rate))
        self.bar.update()
        if number % LINE_EVERY == 0:
            self.flush()

    def flush(self) -> None:
        """Writes the pending line.

        Raises:
            LossError: a loss is not finite; the files of the update are named.
        """
        if not self.pending:
            return
        names = list(self.pending[0][1])
        rows = torch.stack([torch.stack([parts[name] for name in names]) for _, parts, _ in self.pending]).tolist()
        for (number, _, _), parts in zip(self.pending, rows, strict=True):
            if not math.isfinite(sum(parts)):
                files = ", ".join(sorted(set(self.describe(number))))
                raise LossError(
                    f"the loss is {sum(parts)} at update {number} (files: {files}); lower training.learning_rate or "
                    "set base.precision=bf16 or fp32. Checkpoints saved before are kept"
                )
        number, _, rate = self.pending[-1]
        images, loss = self.first + number * self.images_per_update, sum(map(sum, rows)) / len(rows)
        row: dict[str, Any] = {
            "images": images,
            "epoch": round(images / self.images_per_epoch, 4),
            "update": number,
            "loss": loss,
            "learning_rate": rate,
        }
        if len(names) > 1:
            row["parts"] = {name: sum(column) / len(rows) for name, *column in zip(names, *rows, strict=True)}
        if self.bins and (by_timestep := self.bins.take()):
            row["loss_by_timestep"] = by_timestep
        self._write(row | self._speed(number))
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.pending.clear()

    def validated(self, row: dict[str, Any]) -> None:
        """Shows a validation on the trackers."""
        self.trackers.log({"validation/loss": row["loss"]}, row["images"])

    def close(self) -> None:
        """Ends the bar and the trackers."""
        self.bar.close()
        self.trackers.close()

    def _speed(self, number: int) -> dict[str, float]:
        now = time.monotonic()
        seconds, self.mark = (now - self.mark) / len(self.pending), now
        return {
            "images_per_second": round(self.images_per_update / seconds, 3) if seconds else 0.0,
            "memory_mib": round(used_memory(self.pending[0][1].popitem()[1].device)),
            "seconds_left": round(seconds * (self.updates - number)),
        }

    def _write(self, row: dict[str, Any]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = {f"training/{key}": row[key] for key in ("loss", "learning_rate", "images_per_second", "memory_mib")}
        shown |= {f"training/{name}": value for name, value in row.get("parts", {}).items()}
        shown |= {f"timesteps/{bin_}": value for bin_, value in row.get("loss_by_timestep", {}).items()}
        self.trackers.log(shown, row["images"])
