"""What the loss is made of: terms that each look at one batch and answer with losses by name.

`Paired` is the objective itself, with the pixel distances of its answer; `Preservation` and `PriorImages` hold the LoRA
near the base where it is not asked to change anything. A run's loss is the sum of all terms' means.
"""

from collections import defaultdict
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

Text = Callable[[], Tensor]
"""Embeddings of a batch's captions, (batch, tokens, width), by the text encoder as it is when they are asked for."""
Texts = Callable[[Sequence[str]], Text]
"""Captions to what embeds them: known already, or made in the step where the text encoder is trained."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the device.

    Attributes:
        positions: of its images in the run.
        clean: z_c, float32 (batch, channels, height, width).
        degraded: z_d, same shape; the clean ones where the draws say so.
        mask: weights of places, float32 (batch, 1, height, width), or None.
        text: of its captions.
    """

    positions: range
    clean: Tensor
    degraded: Tensor
    mask: Tensor | None
    text: Text
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
        base, draws, text = self.adapter.base, batch.draws, batch.text()
        return forecast(
            lambda latents, timesteps: base.predict(latents, timesteps, text, batch.degraded),
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
            frozen = base.predict(latents, timesteps, batch.text(), batch.degraded)
        answer = base.predict(latents, timesteps, batch.text(), batch.degraded)
        return {"preservation": self.weight * (answer - frozen).square().mean(dim=(1, 2, 3))}


@dataclass(frozen=True)
class PriorImages:
    """Plain denoising of regularisation images: as many as the batch has, in an order of their own.

    Attributes:
        items: index of the image of each visit, repeats included.
        captions: by index of the image.
        texts: makes what embeds them.
    """

    adapter: Adapter
    weight: float
    seed: int
    views: ViewSource
    items: Sequence[int]
    variants: int
    captions: Sequence[str]
    texts: Texts

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The mean squared error of the noise prediction (Ho et al. 2020, equation 14)."""
        images = {place: self._image(place) for place in batch.positions}
        by_shape: dict[torch.Size, list[int]] = defaultdict(list)
        for place, (_, latents) in images.items():  # buckets may differ from image to image
            by_shape[latents.shape].append(place)
        losses: dict[int, Tensor] = {}
        for places in by_shape.values():
            clean = torch.cat([images[place][1] for place in places]).to(batch.clean.device)
            text = self.texts([self.captions[images[place][0]] for place in places])()
            losses |= zip(places, self._errors(clean, text, places), strict=True)
        return {"prior": self.weight * torch.stack([losses[place] for place in batch.positions])}

    def _image(self, place: int) -> tuple[int, Tensor]:
        """Index and latents, (1, channels, height, width), of the image of a visit."""
        index = self.items[shuffled_index(place, len(self.items), "prior", self.seed)]
        view = int(numpy_generator("prior view", self.seed, place).integers(self.variants))
        return index, self.views.rows([(index, view)]).clean

    def _errors(self, clean: Tensor, text: Tensor, places: Sequence[int]) -> Tensor:
        latents, timesteps, eps = noised(self.adapter, clean, "prior", self.seed, places)
        answer = self.adapter.base.predict(latents, timesteps, text, clean)
        return (answer - self._target(clean, eps, timesteps)).square().mean(dim=(1, 2, 3))

    def _target(self, clean: Tensor, eps: Tensor, timesteps: Tensor) -> Tensor:
        schedule = self.adapter.base.schedule
        sigma = schedule.sigma(timesteps)
        return schedule.target(denoise(clean, clean, eps, sigma, sigma, torch.ones_like(sigma)), timesteps)


def noised(
    adapter: Adapter, clean: Tensor, stream: str, seed: int, positions: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean latents with plain noise, each at a timestep of its own: (x_t, timesteps int64 (batch,), noise)."""
    schedule = adapter.base.schedule
    timesteps, noise = [], []
    for position in positions:
        timesteps.append(int(numpy_generator(stream, "t", seed, position).integers(len(schedule.alphas_cumprod))))
        noise.append(torch.randn(clean.shape[1:], generator=torch_generator(stream, "eps", seed, position)))
    drawn = torch.tensor(timesteps, device=clean.device)
    eps = torch.stack(noise).to(clean.device)
    return schedule.model_input(clean + schedule.sigma(drawn) * eps, drawn), drawn, eps
