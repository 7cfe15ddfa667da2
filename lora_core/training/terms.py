"""What the loss is made of: terms that each look at one batch and answer with losses by name.

`Paired` is the objective itself, with the pixel distances of its answer; `Preservation` and `PriorImages` hold the LoRA
near the base where it is not asked to change anything. A run's loss is the sum of all terms' means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lora_core.data.views import ViewSource
from lora_core.lora import Adapter
from lora_core.objectives import Forecast, Objective, denoise, forecast
from lora_core.randomness import numpy_generator, shuffled_index, torch_generator
from lora_core.training.draws import Draws
from lora_core.training.losses import Distance, Weighting, latent_loss
from lora_core.training.pixels import PixelTerms


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the device.

    Attributes:
        positions: of its images in the run.
        clean: z_c, float32 (batch, channels, height, width).
        degraded: z_d, same shape; the clean ones where the draws say so.
        mask: weights of places, float32 (batch, 1, height, width), or None.
        captions: of its images.
        text: their embeddings, (batch, tokens, width); empty until the step makes them, where the text encoder is
            trained.
    """

    positions: range
    captions: Sequence[str]
    clean: Tensor
    degraded: Tensor
    mask: Tensor | None
    text: Tensor
    draws: Draws


class Term(Protocol):
    """A part of the loss."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses by name, float32 (batch,) each."""


@dataclass(frozen=True)
class Paired:
    """The objective: from the degraded to the clean latents.

    Attributes:
        observe: told the timesteps and latent losses of each batch, int64 and float32 (batch,).
    """

    adapter: Adapter
    objective: Objective
    weighting: Weighting
    distance: Distance
    pixels: PixelTerms | None = None
    observe: Callable[[Tensor, Tensor], object] = lambda timesteps, losses: None

    def ask(self, batch: Batch) -> Forecast:
        """What the model answers at the batch's points."""
        base, draws = self.adapter.base, batch.draws
        return forecast(
            lambda latents, timesteps: base.predict(latents, timesteps, batch.text, batch.degraded),
            self.objective,
            base.schedule,
            batch.clean,
            batch.degraded,
            draws.eps,
            draws.timesteps,
            draws.starts,
            draws.kappa,
        )

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The latent loss, and the pixel distances if there are any."""
        made = self.ask(batch)
        weights = self.weighting(self.adapter.base.schedule, batch.draws.timesteps)
        losses = {"latent": latent_loss(made, weights, self.distance, batch.mask)}
        self.observe(batch.draws.timesteps, losses["latent"])
        return losses | (self.pixels(made.x0, batch.clean) if self.pixels else {})


@dataclass(frozen=True)
class Preservation:
    """Distance to the frozen base's own answer on noised clean latents, at timesteps of the whole range.

    It needs no further files (the teacher of OneTrainer and SimpleTuner). Without it a LoRA may do what it likes
    wherever its objective does not look.
    """

    adapter: Adapter
    weight: float
    seed: int

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The mean squared distance of both answers."""
        latents, timesteps, _ = noised(self.adapter, batch.clean, "preservation", self.seed, batch.positions)
        base = self.adapter.base
        with torch.no_grad(), self.adapter.disabled():
            frozen = base.predict(latents, timesteps, batch.text, batch.degraded)
        answer = base.predict(latents, timesteps, batch.text, batch.degraded)
        return {"preservation": self.weight * (answer - frozen).square().mean(dim=(1, 2, 3))}


@dataclass(frozen=True)
class PriorImages:
    """Plain denoising of regularisation images: as many as the batch has, in an order of their own.

    Attributes:
        items: index of the image of each visit, repeats included.
        text: captions' embeddings by index.
    """

    adapter: Adapter
    weight: float
    seed: int
    views: ViewSource
    items: Sequence[int]
    variants: int
    text: Callable[[Sequence[int]], Tensor]

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The mean squared error of the noise prediction (Ho et al. 2020, equation 14)."""
        places = [self.items[shuffled_index(place, len(self.items), "prior", self.seed)] for place in batch.positions]
        losses = []
        for place, index in zip(batch.positions, places, strict=True):  # buckets may differ from image to image
            view = int(numpy_generator("prior view", self.seed, place).integers(self.variants))
            clean = self.views.rows([(index, view)]).clean.to(batch.clean.device)
            latents, timesteps, eps = noised(self.adapter, clean, "prior", self.seed, range(place, place + 1))
            answer = self.adapter.base.predict(latents, timesteps, self.text([index]), clean)
            losses.append((answer - self._target(clean, eps, timesteps)).square().mean())
        return {"prior": self.weight * torch.stack(losses)}

    def _target(self, clean: Tensor, eps: Tensor, timesteps: Tensor) -> Tensor:
        schedule = self.adapter.base.schedule
        sigma = schedule.sigma(timesteps)
        return schedule.target(denoise(clean, clean, eps, sigma, sigma, torch.ones_like(sigma)), timesteps)


def noised(adapter: Adapter, clean: Tensor, stream: str, seed: int, positions: range) -> tuple[Tensor, Tensor, Tensor]:
    """Clean latents with plain noise, each at a timestep of its own: (x_t, timesteps int64 (batch,), noise)."""
    schedule = adapter.base.schedule
    timesteps, noise = [], []
    for position in positions:
        timesteps.append(int(numpy_generator(stream, "t", seed, position).integers(len(schedule.alphas_cumprod))))
        noise.append(torch.randn(clean.shape[1:], generator=torch_generator(stream, "eps", seed, position)))
    drawn = torch.tensor(timesteps, device=clean.device)
    eps = torch.stack(noise).to(clean.device)
    return schedule.model_input(clean + schedule.sigma(drawn) * eps, drawn), drawn, eps
