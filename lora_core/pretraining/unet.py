"""The text-conditioned UNet: plain denoising of the photographs' latents.

The loss is the simple objective of DDPM (Ho et al. 2020, equation 14), or its v form (Salimans & Ho 2022), on SD 1.5's
noise schedule. A share of the timesteps is drawn from the low-noise end, because that is where restoration by img2img
starts.

A share of the images may also be *restored*: degraded by a published recipe, they are shown at low noise, and the
target leads from there to the clean photograph (`objectives.direct`, any start noise between none and all of it). A
denoiser of a few million parameters spends its size on drawing pictures from nothing, which img2img never asks of it;
what a restoration LoRA needs from so small a base is that its features tell damage from detail. Denoising is the case
in which the degraded half is the clean one and the start noise is 1, so one loss serves both.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.degradation import degrade
from lora_core.errors import ConfigError
from lora_core.objectives import NoiseSchedule, Point, direct, forecast
from lora_core.pretraining.latents import LatentSource
from lora_core.pretraining.recipe import Recipe, UNetSection
from lora_core.pretraining.text import token_ids
from lora_core.randomness import numpy_generator, seed_for, torch_generator

TIMESTEPS = 1000
SNR_GAMMA = 5.0
_RESTORED_FROM, _JUDGED_AT = 20, 99


def noise_scheduler(prediction: str) -> DDIMScheduler:
    """SD 1.5's schedule: scaled-linear betas .00085 to .012 over 1000 timesteps; trailing spacing for few steps."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type=prediction,
    )


def build_unet(section: UNetSection, seed: int, latent_channels: int, sample_size: int) -> UNet2DConditionModel:
    """A freshly initialised UNet; the weights are a function of the seed.

    Args:
        sample_size: side of a training image in latent cells, noted in the configuration.

    Raises:
        ConfigError: the configuration file is missing, is no UNet, or does not fit the latents or the text encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("unet", seed))
        if section.config:
            return _unet_from_file(Path(section.config).expanduser(), latent_channels)
        levels = len(section.channels)
        try:
            return UNet2DConditionModel(
                sample_size=sample_size,
                in_channels=latent_channels,
                out_channels=latent_channels,
                down_block_types=("DownBlock2D",) * (levels - 1) + ("CrossAttnDownBlock2D",),
                up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
                block_out_channels=section.channels,
                layers_per_block=section.layers,
                cross_attention_dim=section.text_width,
                attention_head_dim=section.heads,
                norm_num_groups=16,
            )
        except ValueError as error:
            raise ConfigError(f"unet.channels: {list(section.channels)}: {error}; use multiples of 16") from error


def _unet_from_file(path: Path, latent_channels: int) -> UNet2DConditionModel:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        unet = UNet2DConditionModel.from_config(values)
    except Exception as error:  # diffusers raises many kinds for values that do not fit together
        raise ConfigError(f"unet.config: {path}: {' '.join(str(error).split())[:300]}") from error
    if (unet.config.in_channels, unet.config.out_channels) != (latent_channels, latent_channels):
        raise ConfigError(
            f"unet.config: {path} has {unet.config.in_channels} input and {unet.config.out_channels} output channels, "
            f"the autoencoder's latents have {latent_channels}"
        )
    return unet


class Denoiser(nn.Module):
    """UNet and text encoder, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The UNet's answer, shape of `latents`; `timesteps` int64 (batch,), `tokens` int64 (batch, length)."""
        return self.unet(latents, timesteps, self.text_encoder(tokens)[0]).sample


@dataclass(frozen=True)
class Sample:
    """What is drawn for an image: timestep in [0, 1000), start noise in [0, 1], whether it is degraded."""

    timestep: int
    kappa: float
    restoring: bool


def draw_sample(section: UNetSection, seed: int, position: int) -> Sample:
    """The draws of the image at a position; half of the restored ones begin without noise."""
    draw = numpy_generator("timestep", seed, position)
    low = draw.random() < section.low_noise_share
    timestep = int(draw.random() * (section.low_noise_below if low else TIMESTEPS))
    if draw.random() >= section.restoration_share:
        return Sample(timestep, 1.0, False)
    lowest = _RESTORED_FROM
    timestep = lowest + int(draw.random() * (section.low_noise_below - lowest))
    return Sample(timestep, draw.random() if draw.random() < 0.5 else 0.0, True)


def damage(recipe: Recipe, pixels: Tensor, name: str) -> Tensor:
    """The degraded twin of an image, float32 (3, height, width) in [-1, 1]; a function of its name."""
    return to_pixels(degrade(to_rgb(pixels), recipe.unet.restoration_recipe, name, recipe.seed, 0).rgb)


@dataclass
class UNetStage:
    """The denoiser as what a `Loop` trains.

    Attributes:
        held_out: latents of the fixed validation images, float32 (n, channels, side, side), and their tokens.
        seen: likewise of as many training images, so that both losses are measured alike.
        damaged: latents of the degraded validation images, where some are to be restored.
    """

    module: nn.Module
    recipe: Recipe
    tokenizer: CLIPTokenizer
    source: LatentSource
    held_out: tuple[Tensor, Tensor]
    seen: tuple[Tensor, Tensor]
    damaged: Tensor | None
    schedule: NoiseSchedule
    device: torch.device

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        denoiser: Denoiser,
        tokenizer: CLIPTokenizer,
        source: LatentSource,
        validation: LatentSource,
    ) -> "UNetStage":
        """The stage, on the device of the sources' autoencoder."""
        device = source.device

        def fixed(images: LatentSource) -> tuple[Tensor, Tensor]:
            batch = images.prepare(range(min(recipe.evaluation.images, images.size)))
            return images.latents(batch), token_ids(tokenizer, batch["captions"]).to(device)

        damaged = None
        if recipe.unet.restoration_share:
            count = min(recipe.evaluation.images, validation.size)
            pixels = validation.prepare(range(count))["pixels"]
            twins = [damage(recipe, one, f"validation {number}") for number, one in enumerate(pixels)]
            damaged = validation.latents({"pixels": torch.stack(twins)})

        scheduler = noise_scheduler(recipe.unet.prediction)
        schedule = NoiseSchedule(scheduler.alphas_cumprod.float().to(device), recipe.unet.prediction)
        module = denoiser.to(device).to(memory_format=torch.channels_last)
        return cls(module, recipe, tokenizer, source, fixed(validation), fixed(source), damaged, schedule, device)

    def prepare(self, positions: range) -> dict[str, Any]:
        """Images or cached latents, tokens, timesteps and noise; each image's draws depend on its position alone."""
        seed, section = self.recipe.seed, self.recipe.unet
        batch = self.source.prepare(positions)
        dropped = [numpy_generator("caption", seed, place).random() < section.caption_dropout for place in positions]
        captions = ["" if drop else text for drop, text in zip(dropped, batch["captions"], strict=True)]
        shape = self.source.shape
        draws = [draw_sample(section, seed, place) for place in positions]
        return self._degraded(batch, positions, draws) | {
            "tokens": token_ids(self.tokenizer, captions),
            "timesteps": torch.tensor([draw.timestep for draw in draws]),
            "kappa": torch.tensor([draw.kappa for draw in draws]),
            "restoring": torch.tensor([draw.restoring for draw in draws]),
            "noise": torch.stack(
                [torch.randn(shape, generator=torch_generator("noise", seed, place)) for place in positions]
            ),
        }

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean squared error of the answer; of a restored photograph that of x0, clipped (`NoiseSchedule.weight`)."""
        clean = self.source.latents(batch)
        names = ("tokens", "timesteps", "noise", "kappa", "restoring")
        tokens, timesteps, noise, kappa, restoring = (batch[name].to(self.device) for name in names)
        degraded = self.source.latents({"pixels": batch["degraded"]}) if "degraded" in batch else clean
        errors = self._errors(clean, degraded, tokens, timesteps, noise, kappa)
        return (errors * torch.where(restoring, self.schedule.weight(timesteps, SNR_GAMMA).flatten(), 1.0)).mean()

    def _degraded(self, batch: dict[str, Any], positions: range, draws: "list[Sample]") -> dict[str, Any]:
        """The batch with the pixels that are shown: degraded where the draw says so, else the clean ones."""
        if not self.recipe.unet.restoration_share:
            return batch
        shown = batch["pixels"].clone()
        for row, (place, draw) in enumerate(zip(positions, draws, strict=True)):
            if draw.restoring:
                shown[row] = damage(self.recipe, shown[row], str(place))
        return batch | {"degraded": shown}

    def validate(self) -> dict[str, Any]:
        """The loss on held-out images at each timestep of the grid, noise fixed, its mean, and that on seen ones.

        Where images are restored, `damage_left` is the error after restoring as a share of the error before, and counts
        in the loss by their share.
        """
        grid = self.recipe.evaluation.timesteps
        by_timestep = {str(place): self._at(place, self.held_out) for place in grid}
        loss, share = float(np.mean(list(by_timestep.values()))), self.recipe.unet.restoration_share
        left = {} if self.damaged is None else {"damage_left": self._damage_left()}
        return {
            "loss": (1 - share) * loss + share * left.get("damage_left", 0.0),
            **left,
            "training_loss": float(np.mean([self._at(place, self.seen) for place in grid])),
            "by_timestep": by_timestep,
        }

    @torch.no_grad()
    def mean_predictor(self) -> dict[str, float]:
        """The loss at each timestep of the grid of always answering the mean: the variance of the target."""
        latents, _ = self.held_out
        values = {}
        for place in self.recipe.evaluation.timesteps:
            timesteps = torch.full((len(latents),), place, device=self.device)
            noise, sigma = self._fixed_noise(latents), self.schedule.sigma(timesteps)
            target = self.schedule.target(Point(latents + sigma * noise, noise), timesteps)
            values[str(place)] = float(target.var(0).mean())
        return values

    def names(self, positions: range) -> list[str]:
        """The records at these positions."""
        return self.source.names(positions)

    @torch.no_grad()
    def _damage_left(self) -> float:
        (clean, tokens), damaged = self.held_out, self.damaged
        assert damaged is not None
        errors, damages = [], []
        for rows in torch.arange(len(clean), device=self.device).split(16):
            timesteps = torch.full((len(rows),), _JUDGED_AT, device=self.device)
            none = torch.zeros(len(rows), device=self.device)
            pair = (clean[rows], damaged[rows])
            errors.append(self._errors(*pair, tokens[rows], timesteps, torch.zeros_like(clean[rows]), none))
            damages.append(((pair[1] - pair[0]) / self.schedule.sigma(timesteps)).square().mean((1, 2, 3)))
        return round((torch.cat(errors).mean() / torch.cat(damages).mean()).item(), 6)

    def _at(self, timestep: int, images: tuple[Tensor, Tensor]) -> float:
        latents, tokens = images
        noise, losses, one = self._fixed_noise(latents), [], torch.ones(len(latents), device=self.device)
        for rows in torch.arange(len(latents), device=self.device).split(16):
            timesteps = torch.full((len(rows),), timestep, device=self.device)
            losses.append(self._errors(latents[rows], latents[rows], tokens[rows], timesteps, noise[rows], one[rows]))
        return round(torch.cat(losses).mean().item(), 6)

    def _fixed_noise(self, latents: Tensor) -> Tensor:
        generator = torch_generator("validation noise", self.recipe.seed)
        return torch.randn(latents.shape, generator=generator).to(self.device)

    def _errors(
        self, clean: Tensor, degraded: Tensor, tokens: Tensor, timesteps: Tensor, noise: Tensor, kappa: Tensor
    ) -> Tensor:
        """The squared error of each image, (batch,)."""
        made = forecast(
            lambda noised, places: self.module(noised.contiguous(memory_format=torch.channels_last), places, tokens),
            direct,
            self.schedule,
            clean,
            degraded,
            noise,
            timesteps,
            timesteps,
            kappa,
        )
        return (made.answer - made.target).square().mean(dim=(1, 2, 3))
