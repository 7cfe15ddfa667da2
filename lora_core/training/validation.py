"""The validation loss: the objective on test photographs, on a fixed grid of timesteps and noise.

A training loss jumps with the timesteps that a batch happened to draw (Nichol & Dhariwal 2021, section 3.3); this one
is the same function of the weights at every checkpoint, so that two of its values can be compared. Its first value is
the base model's own, without LoRA, the measure for all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_core.bases.base import Base, to_pixels
from lora_core.data.pairs import Pair
from lora_core.denoising import Start
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.images import centre_crop, read_rgb
from lora_core.randomness import torch_generator
from lora_core.training.draws import Draws
from lora_core.training.losses import latent_loss
from lora_core.training.terms import Batch, Paired, Text, Texts

_POINTS = 4


@dataclass(frozen=True)
class Validation:
    """The fixed grid.

    Attributes:
        clean: latents of centre crops, float32 (photos, channels, height, width).
        degraded: of their twins.
        noise: standard normal, same shape, a function of the photograph's name.
        points: (t, T, kappa) of each column of the grid.
        text: of the instruction, for each photograph of a batch of `batch`.
    """

    clean: Tensor
    degraded: Tensor
    noise: Tensor
    points: tuple[tuple[int, int, float], ...]
    text: Callable[[int], Text]
    batch: int

    @torch.no_grad()
    def loss(self, paired: Paired) -> float:
        """The mean loss of the grid with the weights in place; waits for the device."""
        base, device, losses = paired.adapter.base, self.clean.device, []
        for t, start, kappa in self.points:
            for first in range(0, len(self.clean), self.batch):
                rows = slice(first, first + self.batch)
                clean = self.clean[rows]
                count = len(clean)
                draws = Draws(
                    torch.full((count,), t, device=device),
                    torch.full((count,), start, device=device),
                    torch.full((count,), kappa, device=device),
                    self.noise[rows],
                    torch.zeros(count, dtype=torch.bool, device=device),
                )
                batch = Batch(range(count), clean, self.degraded[rows], None, self.text(count), draws)
                weights = paired.weighting(base.schedule, draws.timesteps)
                losses.append(latent_loss(paired.ask(batch), weights, paired.distance, None))
        return float(torch.cat(losses).mean())


def open_validation(
    experiment: Experiment, pairs: Sequence[Pair], base: Base, starts: Sequence[Start], texts: Texts
) -> Validation | None:
    """Encodes the test photographs of the grid; None where the experiment wants none.

    Raises:
        DataError: a photograph is smaller than one cell of the UNet, or the halves differ in size.
    """
    chosen = pairs[: experiment.monitoring.validation_photos]
    if not chosen:
        return None
    halves = [(read_rgb(pair.clean), read_rgb(pair.degraded)) for pair in chosen]
    side = min(experiment.data.resolution, *(min(clean.shape[:2]) for clean, _ in halves))
    side = side // base.multiple * base.multiple
    latents = []
    for pair, (clean, degraded) in zip(chosen, halves, strict=True):
        if clean.shape != degraded.shape or not side:
            raise DataError(
                f"{pair.degraded} and its clean photograph differ in size, or are smaller than {base.multiple} pixels"
            )
        latents.append(base.encode(torch.stack([to_pixels(centre_crop(half, side)) for half in (clean, degraded)])))
    stacked = torch.stack(latents)
    noise = [
        torch.randn(stacked.shape[2:], generator=torch_generator("validation", experiment.seed, pair.name))
        for pair in chosen
    ]
    return Validation(
        stacked[:, 0].contiguous(),
        stacked[:, 1].contiguous(),
        torch.stack(noise).to(base.device),
        grid_points(starts, experiment.sweep.start_noises),
        lambda count: texts([experiment.data.prompt] * count),
        experiment.training.batch,
    )


def grid_points(starts: Sequence[Start], kappas: Sequence[float]) -> tuple[tuple[int, int, float], ...]:
    """At most four (t, T) that the sweep visits, spread from the lowest t to the highest, with every start noise."""
    visited = sorted({(t, start.timesteps[0]) for start in starts for t in start.timesteps})
    last = len(visited) - 1
    chosen = sorted({visited[round(last * step / (_POINTS - 1))] for step in range(_POINTS)})
    return tuple((t, start, kappa) for t, start in chosen for kappa in kappas)
