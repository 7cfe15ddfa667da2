"""Micro-batches: what is read and drawn for a range of positions, made ahead of the step in a thread.

Everything is a function of the position alone; what a thread made early is what the step would have made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_core.data.views import ViewSource
from lora_core.denoising import Start
from lora_core.experiment import Experiment
from lora_core.randomness import numpy_generator
from lora_core.training.draws import draw
from lora_core.training.plan import Plan
from lora_core.training.terms import Batch, Texts


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of any positions.

    Attributes:
        captions: of each pair.
        texts: makes what embeds captions.
        starts: the restorations that the sweep will run, from which timesteps are drawn.
    """

    experiment: Experiment
    plan: Plan
    views: ViewSource
    captions: Sequence[str]
    texts: Texts
    starts: list[Start]
    device: torch.device

    def __call__(self, positions: range) -> Batch:
        """The batch at these positions of the run, on its way to the device."""
        samples = [self.plan.sample(position) for position in positions]
        rows = self.views.rows(samples)
        draws = draw(self.experiment, self.starts, positions, tuple(rows.clean.shape[1:]))
        degraded = torch.where(draws.clean.view(-1, 1, 1, 1), rows.clean, rows.degraded)
        captions = [self._caption(pair, place) for place, (pair, _) in zip(positions, samples, strict=True)]
        return Batch(
            positions,
            self._send(rows.clean),
            self._send(degraded),
            None if rows.mask is None else self._send(rows.mask),
            self.texts(captions),
            draws.to(self.device),
        )

    def _caption(self, pair: int, position: int) -> str:
        share = self.experiment.data.caption_dropout
        dropped = share and numpy_generator("caption", self.experiment.seed, position).random() < share
        return "" if dropped else self.captions[pair]

    def _send(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        moved = tensor.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last)
