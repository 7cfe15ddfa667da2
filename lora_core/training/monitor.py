"""What is seen of a run: JSON lines, TensorBoard, a progress bar, and the guard against a loss that is not finite.

Losses stay on the device until a line is written, so that no update waits for one.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lora_core.errors import TrainingError
from lora_core.progress import progress_bar

LINE_EVERY = 8


class Monitor:
    """Collects the losses of the main process and writes a line every `LINE_EVERY` updates."""

    def __init__(
        self,
        log: Path,
        tensorboard: Path,
        *,
        images_per_update: int,
        images_per_epoch: int,
        updates: int,
        done: int,
        describe: Callable[[int], list[str]],
        first: int = 0,
    ):
        """`describe` names the files of an update; lines of a killed run past `done` updates are cut off.

        `first` images were seen by the weights before this run.
        """
        self.images_per_update, self.images_per_epoch = images_per_update, images_per_epoch
        self.describe, self.first = describe, first
        self.log = log
        self.pending: list[tuple[int, Tensor, float]] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        _cut(log, done)
        self.writer = SummaryWriter(str(tensorboard), purge_step=first + done * images_per_update)
        self.bar = progress_bar("train", "update", updates, done)

    def update(self, number: int, loss: Tensor, learning_rate: float) -> None:
        """Notes the mean loss of update `number`, counted from 1."""
        self.pending.append((number, loss.detach(), learning_rate))
        self.bar.update()
        if number % LINE_EVERY == 0:
            self.flush()

    def flush(self) -> None:
        """Writes the pending line.

        Raises:
            TrainingError: a loss is not finite; the files of the update are named.
        """
        if not self.pending:
            return
        losses = torch.stack([loss for _, loss, _ in self.pending]).tolist()
        for (number, _, _), loss in zip(self.pending, losses, strict=True):
            if not math.isfinite(loss):
                files = ", ".join(sorted(set(self.describe(number))))
                raise TrainingError(
                    f"the loss is {loss} at update {number} (files: {files}); lower training.learning_rate or set "
                    "base.precision=bf16 or fp32. Checkpoints saved before are kept"
                )
        number, _, rate = self.pending[-1]
        images, loss = self.first + number * self.images_per_update, sum(losses) / len(losses)
        row = {
            "images": images,
            "epoch": round(images / self.images_per_epoch, 4),
            "update": number,
            "loss": loss,
            "learning_rate": rate,
        }
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.writer.add_scalar("training/loss", loss, images)
        self.writer.add_scalar("training/learning_rate", rate, images)
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.pending.clear()

    def close(self) -> None:
        """Ends the bar and TensorBoard's file."""
        self.bar.close()
        self.writer.close()


def read_log(log: Path) -> list[dict[str, Any]]:
    """The lines of a training log; a line that a kill cut short is left out."""
    if not log.exists():
        return []
    rows = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _cut(log: Path, done: int) -> None:
    rows = [row for row in read_log(log) if row["update"] <= done]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
