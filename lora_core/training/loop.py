"""The training run: set up, fit, save. The loop knows nothing of files but the hooks it is given."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lora_core.experiment import Experiment
from lora_core.lora import Adapter
from lora_core.prefetch import Prefetcher
from lora_core.randomness import seed_for
from lora_core.training.batches import BatchMaker
from lora_core.training.memory import out_of_memory, release
from lora_core.training.optimiser import evaluating, limit_norms, trained_tensors
from lora_core.training.plan import Plan
from lora_core.training.sharding import average_gradients
from lora_core.training.state import RunState
from lora_core.training.terms import Batch, Term

LOG = logging.getLogger(__name__)
Parts = dict[str, Tensor]
_ASK_EVERY = 8
"""Updates between questions of one process to another, for each makes the GPU wait."""


@dataclass(frozen=True)
class Hooks:
    """What happens at certain updates; only the main process has hooks that do something.

    Attributes:
        observe: after each update, with its number, its losses by name and the learning rate.
        validated: after a validation, with its row.
        checkpoint: at a checkpoint, with the epoch, the weights to be judged in place.
        save: every `state_every` images and with each checkpoint.
    """

    observe: Callable[[int, Parts, float], object]
    validated: Callable[[dict[str, Any]], object]
    checkpoint: Callable[[int], object]
    save: Callable[[], object]


@dataclass
class Run:
    """One training run on one process.

    Attributes:
        terms: whose sum is the loss.
        validate: the validation loss of the weights in place, or None where there is nothing to measure it on.
        shrunk: whether a batch ran out of memory and was halved.
        pruner: why a run with these validations and images at its checkpoints is hopeless, or None; None: none is.
    """

    experiment: Experiment
    plan: Plan
    terms: list[Term]
    batches: BatchMaker
    validate: Callable[[], float] | None
    adapter: Adapter
    state: RunState
    accelerator: Accelerator
    shrunk: bool = False
    pruner: Callable[[Sequence[dict[str, Any]], Sequence[int]], str | None] | None = None

    def fit(self, hooks: Hooks) -> str:
        """Trains from the state's update to the plan's last.

        Returns:
            "complete", "time limit", "plateau" or "pruned".
        """
        every = max(1, self.experiment.training.state_every // self.plan.images_per_update)
        outcome = self._early_end()
        prefetcher = self._prefetcher()
        mark = time.monotonic()
        try:
            while self.state.updates < self.plan.updates and outcome == "complete":
                rate = self.state.schedule.get_last_lr()[0]
                try:
                    parts = self._gradients(prefetcher)
                except (RuntimeError, MemoryError) as error:
                    prefetcher.close()
                    self._shrink(error)
                    prefetcher = self._prefetcher()
                    continue
                self._step()
                self.state.updates += 1
                hooks.observe(self.state.updates, parts, rate)
                now = time.monotonic()
                self.state.seconds, mark = self.state.seconds + now - mark, now
                late = self._late()
                saved = self._at_epoch_end(hooks, late)
                outcome = "time limit" if late else self._early_end()
                if saved or self.state.updates % every == 0:
                    hooks.save()
        finally:
            prefetcher.close()
        return "complete" if self.state.updates >= self.plan.updates else outcome

    def attempt(self, size: int) -> None:
        """A forward and backward pass of so many images, without effect: whether they fit into memory."""
        with torch.enable_grad():
            self.accelerator.backward(sum(self._losses(self.batches(range(size))).values()))
        self.state.optimiser.zero_grad(set_to_none=False)

    def _at_epoch_end(self, hooks: Hooks, late: bool) -> bool:
        """Validates and saves a checkpoint where the plan says so or the run stops; returns whether one was saved."""
        update, monitoring = self.state.updates, self.experiment.monitoring
        epoch = self.plan.checkpoints.get(update)
        ends = [one for one in range(1, self.plan.epochs + 1) if self.plan.update_of(one) == update]
        due = self.validate and (epoch or late or any(one % monitoring.validate_every == 0 for one in ends))
        if not (epoch or late or due):
            return False
        with evaluating(self.state.optimiser, self.adapter.parameters(), self.state.average):
            if due and self.validate:
                images = update * self.plan.images_per_update
                row = {"update": update, "images": images, "epoch": round(images / self.plan.images_per_epoch, 4)}
                self.state.validations.append(row | {"loss": self.validate()})
                hooks.validated(self.state.validations[-1])
            if epoch or late or self._stalled():
                hooks.checkpoint(epoch or (ends[-1] if ends else self._epoch()))
                return True
        return self.experiment.training.keep_best and self.best() == len(self.state.validations) - 1

    def best(self) -> int | None:
        """The number of the best validation, the base's own left out."""
        losses = [row["loss"] for row in self.state.validations[1:]]
        return 1 + losses.index(min(losses)) if losses else None

    def hopeless(self) -> str | None:
        """Why the pruner gives the run up at its checkpoints so far, in a sentence; None where it does not.

        A run that is through is not given up: what it costs is paid, and only scores say what it is worth.
        """
        if self.pruner is None or self.state.updates >= self.plan.updates:
            return None
        made = [update for update in self.plan.checkpoints if update <= self.state.updates]
        return self.pruner(self.state.validations, [update * self.plan.images_per_update for update in made])

    def _early_end(self) -> str:
        """A function of the state, so that a run that was killed after its last update ends the same."""
        return "pruned" if self.hopeless() else "plateau" if self._stalled() else "complete"

    def _stalled(self) -> bool:
        """Whether the validation loss has not improved for as long as the experiment's patience."""
        patience, losses = self.experiment.monitoring.patience, [row["loss"] for row in self.state.validations]
        return patience is not None and len(losses) > patience and min(losses[:-patience]) <= min(losses[-patience:])

    def _epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return -(-self.state.updates * self.plan.epochs // self.plan.updates)

    def _gradients(self, batches: Iterator[Batch]) -> Parts:
        """The gradients of one update; returns the means of its losses on this process, not yet waited for."""
        totals = []
        for _ in range(self.plan.accumulation):
            with torch.enable_grad():
                parts = self._losses(next(batches))
                loss = sum(parts.values()) / self.plan.accumulation
                self.accelerator.backward(loss)
            totals.append({name: part.detach() for name, part in parts.items()})
        return {name: torch.stack([parts[name] for parts in totals]).mean() for name in totals[0]}

    def _step(self) -> None:
        """One weight update from the gradients that are there."""
        if self.accelerator.num_processes > 1:
            average_gradients(trained_tensors(self.state.optimiser))
        self.accelerator.unscale_gradients(self.state.optimiser)
        torch.nn.utils.clip_grad_norm_(trained_tensors(self.state.optimiser), self.experiment.training.max_grad_norm)
        self.state.optimiser.step()
        self.state.optimiser.zero_grad(set_to_none=False)
        self.state.schedule.step()
        if self.experiment.adapter.max_norm:
            limit_norms(self.adapter, self.experiment.adapter.max_norm)
        if self.state.average:
            self.state.average.update(self.plan.images_per_update)

    def _losses(self, batch: Batch) -> Parts:
        adapter = self.experiment.adapter
        if adapter.dropout or adapter.rank_dropout or adapter.module_dropout:
            torch.manual_seed(seed_for("dropout", self.experiment.seed, batch.positions.start))
        parts: Parts = {}
        for term in self.terms:
            parts |= {name: losses.mean() for name, losses in term(batch).items()}
        return parts

    def _prefetcher(self) -> Prefetcher[Batch]:
        """Batches from the state's update on."""
        plan, process = self.plan, self.accelerator.process_index
        return Prefetcher(
            lambda micro: self.batches(plan.positions(*divmod(micro, plan.accumulation), process)),
            start=self.state.updates * plan.accumulation,
            step=1,
            depth=2,
            workers=1,
        )

    def _shrink(self, error: BaseException) -> None:
        """Halves the batch after the first update that ran out of memory; its gradients are made anew."""
        smaller = [size for size in range(self.plan.batch // 2, 0, -1) if self.plan.batch % size == 0]
        if not out_of_memory(error) or self.shrunk or not smaller or self.plan.processes > 1:
            raise error
        self.state.optimiser.zero_grad(set_to_none=False)
        release()
        LOG.warning(
            "update %d ran out of memory with batches of %d: going on with batches of %d, same effective batch",
            self.state.updates + 1, self.plan.batch, smaller[0],
        )  # fmt: skip
        self.plan, self.shrunk = self.plan.split(smaller[0]), True

    def _late(self) -> bool:
        """Whether the time is over; several processes must stop at the same update, and ask each other now and then."""
        late = self.state.seconds > 60 * (self.experiment.training.time_limit or float("inf"))
        if self.accelerator.num_processes == 1:
            return late
        if self.state.updates % _ASK_EVERY or self.experiment.training.time_limit is None:
            return False
        flags = self.accelerator.gather(torch.tensor([float(late)], device=self.accelerator.device))
        return bool(flags.max() > 0)
