"""Distance and weight: how far a prediction is from its target, and how much its timestep counts.

A loss is one distance and one weighting, put together from the experiment; neither knows of the other.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lora_core.experiment import ObjectiveSection
from lora_core.objectives import Forecast, NoiseSchedule

Distance = Callable[[Tensor, Tensor], Tensor]
"""(answer, target) to the elementwise distance, all of one shape."""
Weighting = Callable[[NoiseSchedule, Tensor], Tensor]
"""(schedule, timesteps int64 (batch,)) to weights, float32 (batch, 1, 1, 1)."""


def distance_of(section: ObjectiveSection) -> Distance:
    """The elementwise distance. Huber's (1964) is doubled, so that small errors cost what they cost under l2."""
    if section.loss == "l2":
        return lambda answer, target: (answer - target).square()
    if section.loss == "l1":
        return lambda answer, target: (answer - target).abs()
    delta = section.huber_delta
    return lambda answer, target: 2 * functional.huber_loss(answer, target, reduction="none", delta=delta)


def weighting_of(section: ObjectiveSection) -> Weighting:
    """The weight of a timestep: `NoiseSchedule.weight`, `NoiseSchedule.debiased_weight`, or 1."""
    if section.weighting == "debiased":
        return NoiseSchedule.debiased_weight
    gamma = section.snr_gamma if section.weighting == "min-snr" else None
    return lambda schedule, timesteps: schedule.weight(timesteps, gamma)


def latent_loss(made: Forecast, weights: Tensor, distance: Distance, mask: Tensor | None) -> Tensor:
    """The weighted distance of each sample, float32 (batch,).

    Args:
        weights: of the timesteps, float32 (batch, 1, 1, 1).
        mask: weights of places, float32 (batch, 1, height, width) in [0, 1], or None. The mean is over all places: a
            small mask counts little, as with kohya.
    """
    error = weights * distance(made.answer, made.target)
    return (error if mask is None else error * mask).mean(dim=(1, 2, 3))


class TimestepBins:
    """Sums of losses by timestep, kept on the device: ten bins of a tenth of the base's timesteps each."""

    COUNT = 10

    def __init__(self, timesteps: int, device: torch.device):
        self.width = -(-timesteps // self.COUNT)
        self.sums = torch.zeros(2, self.COUNT, device=device)

    def add(self, timesteps: Tensor, losses: Tensor) -> None:
        """Adds a batch: int64 (batch,) and float32 (batch,)."""
        bins = timesteps // self.width
        self.sums[0].index_add_(0, bins, losses.detach())
        self.sums[1].index_add_(0, bins, torch.ones_like(losses.detach()))

    def take(self) -> dict[str, float]:
        """Mean loss of every bin that was met since the last call, by its range of timesteps; waits for the device."""
        sums, counts = self.sums.tolist()
        self.sums.zero_()
        return {
            f"{number * self.width}-{(number + 1) * self.width - 1}": total / count
            for number, (total, count) in enumerate(zip(sums, counts, strict=True))
            if count
        }
