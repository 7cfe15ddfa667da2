"""Training of a small autoencoder from scratch.

The loss is L1 + MSE between the photograph and its reconstruction, with Gaussian noise on the latents so that small
errors of the denoiser stay small errors in the picture. There is no discriminator and no perceptual term: the
restoration loop measures fidelity, and a generator's invented texture would be a floor under every score.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from pydantic import BaseModel, ConfigDict, Field

from lora_core.files import whole_folder
from lora_core.pretraining.photos import PhotoPool
from lora_core.randomness import seed_for, torch_generator

log = logging.getLogger(__name__)


class AutoencoderRecipe(BaseModel):
    """Everything that decides the weights of the autoencoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    latent_channels: int = Field(8, ge=1)
    width: int = Field(48, ge=8, description="Channels of every convolution")
    encoder_blocks: tuple[int, ...] = Field((0, 2, 3), description="Residual blocks a resolution, finest first")
    decoder_blocks: tuple[int, ...] = Field((3, 2, 0), description="Residual blocks a resolution, coarsest first")
    images: int = Field(112_000, ge=1, description="Crops seen in all")
    batch: int = Field(16, ge=1)
    crop: int = Field(64, ge=16, description="Side of a crop in pixels")
    learning_rate: float = Field(6e-4, gt=0)
    warmup: int = Field(2_000, ge=0, description="Crops until the full rate")
    clip: float = Field(0.3, gt=0, description="Largest gradient norm")
    latent_noise: float = Field(0.05, ge=0, description="Standard deviation of the noise on the latents in training")


def build_autoencoder(recipe: AutoencoderRecipe) -> AutoencoderTiny:
    """A freshly initialised autoencoder; the weights are a function of the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("autoencoder", recipe.seed))
        levels = len(recipe.encoder_blocks)
        return AutoencoderTiny(
            encoder_block_out_channels=(recipe.width,) * levels,
            decoder_block_out_channels=(recipe.width,) * levels,
            num_encoder_blocks=recipe.encoder_blocks,
            num_decoder_blocks=recipe.decoder_blocks,
            latent_channels=recipe.latent_channels,
            act_fn="silu",
            scaling_factor=1.0,
        )


def widen_latents(trained: AutoencoderTiny, recipe: AutoencoderRecipe) -> AutoencoderTiny:
    """The recipe's autoencoder with the trained one's weights; latent channels beyond those start nearly silent.

    A narrow bottleneck learns its filters first and is then widened: faster than training the wide one from scratch.
    """
    wide = build_autoencoder(recipe)
    weights, trained_weights = wide.state_dict(), trained.state_dict()
    for name, value in trained_weights.items():
        target = weights[name]
        if target.shape != value.shape:
            target.mul_(0.1)
        target[tuple(slice(size) for size in value.shape)] = value
    wide.load_state_dict(weights)
    return wide


def reconstruction_loss(autoencoder: AutoencoderTiny, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """L1 + MSE of D(E(x) + noise) against x; `pixels` (batch, 3, height, width) in [-1, 1]."""
    latents = autoencoder.encode(pixels).latents
    error = autoencoder.decode(latents + noise).sample - pixels
    return error.abs().mean() + error.square().mean()


def cosine_rate(recipe: AutoencoderRecipe, seen: int) -> float:
    """The learning rate after `seen` crops: linear warm-up, then half a cosine to zero."""
    warm = min(1.0, (seen + recipe.batch) / max(recipe.warmup, 1))
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(seen / recipe.images, 1)))


def train_autoencoder(
    recipe: AutoencoderRecipe,
    photos: PhotoPool,
    folder: Path,
    *,
    initial: AutoencoderTiny | None = None,
    save_every_seconds: float = 120,
    evaluate: Callable[[AutoencoderTiny], float] | None = None,
) -> AutoencoderTiny:
    """Trains, or goes on from the state in `folder`, until `recipe.images` crops were seen.

    Args:
        initial: what to start from instead of fresh weights (trained in place).
        folder: `state/` and `log.jsonl` are kept here.
        evaluate: called at each save; its value goes into the log as `psnr`.
    """
    autoencoder = initial or build_autoencoder(recipe)
    autoencoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    seen, saved, started = _restore(autoencoder, optimizer, folder), time.monotonic(), time.monotonic()
    first = seen
    while seen < recipe.images:
        pixels = torch.from_numpy(photos.crops(seen, recipe.batch, recipe.crop, recipe.seed))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        side = recipe.crop // 2 ** (len(recipe.encoder_blocks) - 1)
        shape = (recipe.batch, recipe.latent_channels, side, side)
        noise = recipe.latent_noise * torch.randn(shape, generator=torch_generator("latent", recipe.seed, seen))
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(recipe, seen)
        loss = reconstruction_loss(autoencoder, pixels, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), recipe.clip)
        optimizer.step()
        seen += recipe.batch
        if time.monotonic() - saved > save_every_seconds or seen >= recipe.images:
            row = {"images": seen, "loss": round(loss.item(), 5), "rate": (seen - first) / (time.monotonic() - started)}
            if evaluate:
                row["psnr"] = evaluate(autoencoder)
            _save(autoencoder, optimizer, seen, folder, row)
            saved = time.monotonic()
    return autoencoder


def _save(autoencoder: AutoencoderTiny, optimizer: torch.optim.Optimizer, seen: int, folder: Path, row: dict) -> None:
    with whole_folder(folder / "state") as state:
        torch.save(
            {"model": autoencoder.state_dict(), "optimizer": optimizer.state_dict(), "images": seen}, state / "state.pt"
        )
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    log.info("autoencoder %s", row)


def _restore(autoencoder: AutoencoderTiny, optimizer: torch.optim.Optimizer, folder: Path) -> int:
    state = folder / "state" / "state.pt"
    if not state.exists():
        return 0
    saved = torch.load(state, weights_only=True)
    autoencoder.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["images"])
