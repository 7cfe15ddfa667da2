"""Training of a small text-conditioned UNet on an autoencoder's latents, by plain noise prediction.

The loss is the simple objective of DDPM (Ho et al. 2020, equation 14) on SD 1.5's noise schedule. A share of the
timesteps is drawn from the low-noise end, because that is where restoration by img2img starts.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from transformers import CLIPTextModel, CLIPTokenizer

from lora_core.files import whole_folder
from lora_core.pretraining.photos import PhotoPool
from lora_core.pretraining.text import caption_of
from lora_core.randomness import numpy_generator, seed_for, shuffled_index, torch_generator

log = logging.getLogger(__name__)


class UNetRecipe(BaseModel):
    """Everything that decides the weights of the UNet and the text encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    channels: tuple[int, ...] = Field((64, 96, 128), description="Width a resolution, finest first")
    layers: int = Field(1, ge=1, description="Residual blocks a resolution")
    heads: int = Field(4, ge=1, description="Attention heads, at the coarsest resolution only")
    text_width: int = Field(128, ge=16)
    text_layers: int = Field(2, ge=1)
    images: int = Field(48_000, ge=1, description="Latent crops seen in all")
    batch: int = Field(16, ge=1)
    crop: int = Field(32, ge=8, description="Side of a crop in latent cells")
    learning_rate: float = Field(1e-3, gt=0)
    warmup: int = Field(2_000, ge=0, description="Crops until the full rate")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm")
    caption_dropout: float = Field(0.1, ge=0, le=1)
    low_noise_share: float = Field(0.5, ge=0, le=1, description="Share of timesteps drawn below `low_noise_below`")
    low_noise_below: int = Field(300, ge=1, le=1000)


def noise_schedule() -> DDIMScheduler:
    """SD 1.5's schedule: scaled-linear betas .00085 to .012 over 1000 timesteps; trailing spacing for few steps."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def build_unet(recipe: UNetRecipe, latent_channels: int, sample_size: int = 64) -> UNet2DConditionModel:
    """A freshly initialised UNet of SD's class; the weights are a function of the recipe's seed."""
    levels = len(recipe.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("unet", recipe.seed))
        return UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=latent_channels,
            out_channels=latent_channels,
            down_block_types=("DownBlock2D",) * (levels - 1) + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            block_out_channels=recipe.channels,
            layers_per_block=recipe.layers,
            cross_attention_dim=recipe.text_width,
            attention_head_dim=recipe.heads,
            norm_num_groups=16,
        )


@dataclass(frozen=True)
class LatentPool:
    """The latents of whole photographs, and of their mirror images.

    Attributes:
        latents: a (2, channels, height, width) float32 array a photograph, scaled to unit variance.
        captions: one text a photograph.
        scaling_factor: what the raw latents were multiplied by.
    """

    latents: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    scaling_factor: float

    @classmethod
    @torch.no_grad()
    def encode(cls, photos: PhotoPool, autoencoder: AutoencoderTiny, factor: int) -> "LatentPool":
        """Encodes every photograph, cut to a multiple of `factor` pixels."""
        raw = []
        for image in photos.pixels:
            height, width = (side - side % factor for side in image.shape[:2])
            pixels = torch.from_numpy(image[:height, :width]).permute(2, 0, 1).float() / 127.5 - 1
            both = torch.stack([pixels, pixels.flip(-1)]).contiguous(memory_format=torch.channels_last)
            raw.append(autoencoder.encode(both).latents.contiguous().numpy())
        deviation = float(np.sqrt(np.mean([np.mean(np.square(latent)) for latent in raw])))
        scale = 1 / deviation
        return cls(tuple(latent * scale for latent in raw), tuple(map(caption_of, photos.names)), scale)

    def batch(self, start: int, recipe: UNetRecipe) -> tuple[torch.Tensor, list[str]]:
        """Crops `start` to `start + recipe.batch` of the endless stream, and their captions."""
        crops, captions = [], []
        for position in range(start, start + recipe.batch):
            number = shuffled_index(position, len(self.latents), "latents", recipe.seed)
            draw = numpy_generator("latent crop", recipe.seed, position)
            latent = self.latents[number][int(draw.integers(2))]
            top = int(draw.integers(latent.shape[1] - recipe.crop + 1))
            left = int(draw.integers(latent.shape[2] - recipe.crop + 1))
            crops.append(latent[:, top : top + recipe.crop, left : left + recipe.crop])
            captions.append("" if draw.random() < recipe.caption_dropout else self.captions[number])
        return torch.from_numpy(np.stack(crops)), captions


def draw_timesteps(recipe: UNetRecipe, start: int) -> torch.Tensor:
    """Timesteps of one batch, int64 in [0, 1000)."""
    draw = numpy_generator("timesteps", recipe.seed, start)
    low = draw.random(recipe.batch) < recipe.low_noise_share
    top = np.where(low, recipe.low_noise_below, 1000)
    return torch.from_numpy((draw.random(recipe.batch) * top).astype(np.int64))


@dataclass
class TextConditionedUNet:
    """What is trained together."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    def parameters(self) -> list[torch.nn.Parameter]:
        """All weights."""
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    def noise_prediction_loss(
        self, latents: torch.Tensor, captions: list[str], timesteps: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error of the predicted noise; `latents` (batch, channels, height, width) of unit variance."""
        alphas = noise_schedule().alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noised = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        tokens = self.tokenizer(
            captions,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        text = self.text_encoder(tokens.input_ids)[0]
        noised = noised.contiguous(memory_format=torch.channels_last)
        return (self.unet(noised, timesteps, text).sample - noise).square().mean()


def train_unet(
    recipe: UNetRecipe,
    model: TextConditionedUNet,
    pool: LatentPool,
    folder: Path,
    *,
    save_every_seconds: float = 120,
    evaluate: Callable[[TextConditionedUNet], float] | None = None,
) -> None:
    """Trains in place, or goes on from the state in `folder`, until `recipe.images` crops were seen."""
    model.unet.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    seen = _restore(model, optimizer, folder)
    saved, losses = time.monotonic(), []
    while seen < recipe.images:
        latents, captions = pool.batch(seen, recipe)
        noise = torch.randn(latents.shape, generator=torch_generator("noise", recipe.seed, seen))
        warm = min(1.0, (seen + recipe.batch) / max(recipe.warmup, 1))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * seen / recipe.images))
        loss = model.noise_prediction_loss(latents, captions, draw_timesteps(recipe, seen), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        seen += recipe.batch
        losses.append(loss.item())
        if time.monotonic() - saved > save_every_seconds or seen >= recipe.images:
            row = {"images": seen, "loss": sum(losses) / len(losses)}
            if evaluate:
                row["validation"] = evaluate(model)
            _save(model, optimizer, seen, folder, row)
            saved, losses = time.monotonic(), []


def _save(model: TextConditionedUNet, optimizer: torch.optim.Optimizer, seen: int, folder: Path, row: dict) -> None:
    with whole_folder(folder / "state") as state:
        torch.save(
            {
                "unet": model.unet.state_dict(),
                "text_encoder": model.text_encoder.state_dict(),
                "optimizer": optimizer.state_dict(),
                "images": seen,
            },
            state / "state.pt",
        )
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    log.info("unet %s", row)


def _restore(model: TextConditionedUNet, optimizer: torch.optim.Optimizer, folder: Path) -> int:
    state = folder / "state" / "state.pt"
    if not state.exists():
        return 0
    saved = torch.load(state, weights_only=True)
    model.unet.load_state_dict(saved["unet"])
    model.text_encoder.load_state_dict(saved["text_encoder"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["images"])
