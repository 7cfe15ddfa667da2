"""The loop of base training, the same for autoencoder and UNet: it knows neither, nor any file.

A stage says what a batch is and what its loss is; the course says what comes when; the state is all that changes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lora_core.pretraining.course import Course
from lora_core.pretraining.data.batches import Prefetcher
from lora_core.pretraining.plateau import Plateau, plateau
from lora_core.pretraining.state import State

Batch = dict[str, Any]


class Stage(Protocol):
    """What is trained.

    Attributes:
        module: the module that accelerate wraps; its forward is called with keyword tensors of a batch.
    """

    module: nn.Module

    def prepare(self, positions: range) -> Batch:
        """The batch at these positions, on the CPU; called from threads, ahead of the step."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss of a prepared batch, a float32 scalar."""

    def validate(self) -> dict[str, Any]:
        """{"loss": float, …} on the fixed grid."""

    def names(self, positions: range) -> list[str]:
        """The records at these positions, for an error message."""


@dataclass
class Hooks:
    """What the loop tells: each is called on the main process alone.

    Attributes:
        update: number, loss (not yet waited for) and learning-rate factor of each update.
        validated: after each validation, with its row.
        checkpoint: at an epoch's end that saves one, with the number of the update, the average in place.
        samples: likewise, for test images.
        save: at every state.
    """

    update: Callable[[int, Tensor, float], object]
    validated: Callable[[dict[str, Any]], object]
    checkpoint: Callable[[int], object]
    samples: Callable[[int], object]
    save: Callable[[], object]


@dataclass
class Loop:
    """One run on one process."""

    stage: Stage
    course: Course
    state: State
    accelerator: Accelerator

    def fit(self, hooks: Hooks) -> str:
        """Trains from the state's update to the course's last.

        Returns:
            "complete", "plateau" or "time limit".
        """
        training, course, state = self.course.training, self.course, self.state
        every = max(1, training.state_every // course.images_per_update)
        limit = 60 * (training.time_limit or float("inf"))
        keep = 0.5 ** (course.images_per_update / training.ema) if training.ema else 0.0
        main = self.accelerator.is_main_process
        outcome = "plateau" if self._plateau().stop else "complete"
        with self._batches() as batches:
            while state.updates < course.updates and outcome == "complete":
                rate = course.rate(state.updates) * self._plateau().factor
                started = time.monotonic()
                loss = self._update(batches, rate)
                state.updates += 1
                state.update_average(keep)
                state.seconds += time.monotonic() - started
                if main:
                    hooks.update(state.updates, loss, rate)
                if self._any(state.seconds > limit):
                    outcome = "time limit"
                saved = self._at_epoch_end(hooks, late=outcome != "complete")
                if outcome == "complete" and self._plateau().stop:
                    outcome = "plateau"
                if main and (saved or outcome != "complete" or state.updates % every == 0):
                    hooks.save()
        return "complete" if state.updates >= course.updates else outcome

    def _plateau(self) -> Plateau:
        return plateau([row["loss"] for row in self.state.validations], self.course.training)

    def _at_epoch_end(self, hooks: Hooks, *, late: bool) -> bool:
        """Validates, shows and saves where an epoch ends or the run stops; returns whether a checkpoint was saved."""
        training, course, update = self.course.training, self.course, self.state.updates
        checkpoint = late or course.ends_epoch(update, training.checkpoint_every)
        if checkpoint or course.ends_epoch(update, training.validate_every):
            with self.averaged():
                row = {"images": course.images(update), "epoch": round(course.epoch(update), 4)}
                self.state.validations.append(row | self.stage.validate())
                stop = self._plateau().stop
                checkpoint = checkpoint or stop
                if self.accelerator.is_main_process:
                    hooks.validated(self.state.validations[-1])
                    if checkpoint:
                        self.state.require_finite()
                        hooks.checkpoint(update)
                    if (checkpoint and (late or stop)) or course.ends_epoch(update, training.samples_every):
                        hooks.samples(update)
        return checkpoint

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average in place of the weights, without gradients."""
        self.state.swap_average()
        try:
            with torch.no_grad():
                yield
        finally:
            self.state.swap_average()

    @contextmanager
    def _batches(self) -> Iterator[Iterator[Batch]]:
        course, process = self.course, self.accelerator.process_index
        prefetcher = Prefetcher(
            lambda micro: self.stage.prepare(course.positions(micro, process)),
            start=self.state.updates * course.training.accumulation,
            step=1,
            depth=2 * course.training.workers,
            workers=course.training.workers,
        )
        try:
            yield iter(prefetcher)
        finally:
            prefetcher.close()

    def _update(self, batches: Iterator[Batch], rate: float) -> Tensor:
        """One weight update at `rate` times the peak rates; returns its mean loss on this process."""
        training, losses = self.course.training, []
        for micro in range(training.accumulation):
            waiting = time.monotonic()
            batch = next(batches)
            self.state.waited += time.monotonic() - waiting
            last = micro == training.accumulation - 1
            with self.accelerator.autocast():
                loss = self.stage.loss(batch)
            if last:
                self.accelerator.backward(loss / training.accumulation)
            else:
                with self.accelerator.no_sync(self.stage.module):
                    self.accelerator.backward(loss / training.accumulation)
            losses.append(loss.detach())
        for optimiser in self.state.optimisers:
            self.accelerator.unscale_gradients(optimiser)
        torch.nn.utils.clip_grad_norm_(self.state.trained().values(), training.max_grad_norm)
        for optimiser in self.state.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return torch.stack(losses).mean()

    def _any(self, flag: bool) -> bool:
        """Whether any process says so: all of them must stop at the same update."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = self.accelerator.gather(torch.tensor([float(flag)], device=self.accelerator.device))
        return bool(flags.max() > 0)
