"""The training run: set up, fit, save. The loop knows nothing of files but the three places it is given."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lora_core.data.latents import ViewCache
from lora_core.experiment import Experiment
from lora_core.lora import Adapter
from lora_core.objectives import OBJECTIVES, paired_loss
from lora_core.restoration import Start
from lora_core.training.draws import draw
from lora_core.training.plan import Plan
from lora_core.training.state import RunState


@dataclass
class Run:
    """One training run on one process.

    Attributes:
        text: embedding of the prompt, (1, tokens, width), where the text encoder is not trained.
        models: the modules that accelerate synchronises.
    """

    experiment: Experiment
    plan: Plan
    cache: ViewCache
    starts: list[Start]
    adapter: Adapter
    state: RunState
    accelerator: Accelerator
    models: list[Any]
    text: Tensor | None

    def fit(
        self,
        *,
        observe: Callable[[int, Tensor, float], object],
        save_state: Callable[[], object],
        save_checkpoint: Callable[[int], object],
    ) -> str:
        """Trains from the state's update to the plan's last.

        Args:
            observe: called after each update with its number, its loss and the learning rate.
            save_state: called every `state_every` images and with each checkpoint.
            save_checkpoint: called with the epoch.

        Returns:
            "complete" or "time limit".
        """
        every = max(1, self.experiment.training.state_every // self.plan.images_per_update)
        limit = 60 * (self.experiment.training.time_limit or float("inf"))
        mark = time.monotonic()
        while self.state.updates < self.plan.updates:
            rate = self.state.schedule.get_last_lr()[0]
            loss = self._update(self.state.updates)
            self.state.updates += 1
            observe(self.state.updates, loss, rate)
            now = time.monotonic()
            self.state.seconds, mark = self.state.seconds + now - mark, now
            late = self.state.seconds > limit
            epoch = self.plan.checkpoints.get(self.state.updates)
            if epoch or late:
                save_checkpoint(epoch or self._epoch())
            if epoch or late or self.state.updates % every == 0:
                save_state()
            if late and self.state.updates < self.plan.updates:
                return "time limit"
        return "complete"

    def _epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return -(-self.state.updates * self.plan.images_per_update // len(self.plan.items))

    def _update(self, number: int) -> Tensor:
        """One weight update; returns its mean loss on this process, not yet waited for."""
        losses = []
        for micro in range(self.plan.accumulation):
            last = micro == self.plan.accumulation - 1
            with torch.enable_grad():
                loss = self._loss(self.plan.positions(number, micro, self.accelerator.process_index))
                if last:
                    self.accelerator.backward(loss / self.plan.accumulation)
                else:
                    with self.accelerator.no_sync(self.models[0]):
                        self.accelerator.backward(loss / self.plan.accumulation)
            losses.append(loss.detach())
        self.accelerator.unscale_gradients(self.state.optimiser)
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), self.experiment.training.max_grad_norm)
        self.state.optimiser.step()
        self.state.optimiser.zero_grad(set_to_none=True)
        self.state.schedule.step()
        return torch.stack(losses).mean()

    def _loss(self, positions: range) -> Tensor:
        base, device = self.adapter.base, self.accelerator.device
        clean, degraded = (
            half.to(device) for half in self.cache.rows([self.plan.sample(place) for place in positions])
        )
        draws = draw(self.experiment, self.starts, positions, tuple(clean.shape[1:]))
        degraded = torch.where(draws.clean.to(device).view(-1, 1, 1, 1), clean, degraded)
        prompt = self.experiment.data.prompt
        text = base.encode_prompt([prompt]) if self.text is None else self.text
        text = text.expand(len(positions), -1, -1)
        return paired_loss(
            lambda latents, timesteps: base.predict(
                latents.contiguous(memory_format=torch.channels_last), timesteps, text
            ),
            OBJECTIVES[self.experiment.objective.kind],
            base.schedule,
            clean,
            degraded,
            draws.eps.to(device),
            draws.timesteps.to(device),
            draws.starts.to(device),
            draws.kappa.to(device),
            self.experiment.objective.snr_gamma,
        ).mean()
