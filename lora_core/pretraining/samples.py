"""Test images of a training: pictures from captions, and reconstructions beside their originals."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.images import write_png
from lora_core.pretraining.recipe import Recipe
from lora_core.randomness import torch_generator


@torch.no_grad()
def draw_pictures(pipeline: Any, recipe: Recipe, prompts: list[str], stream: str, first: int = 0) -> np.ndarray:
    """A picture a prompt from fixed noise, (prompts, image_size, image_size, 3) uint8.

    Args:
        stream: names the noise; picture i takes its noise at `first` + i whatever the batch.
    """
    factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    side, channels = recipe.data.image_size // factor, pipeline.unet.config.in_channels
    noise = [
        torch.randn((channels, side, side), generator=torch_generator("picture", stream, recipe.seed, first + number))
        for number in range(len(prompts))
    ]
    drawn = pipeline(
        prompt=prompts,
        latents=torch.stack(noise).to(pipeline.device),
        num_inference_steps=recipe.evaluation.steps,
        guidance_scale=recipe.evaluation.guidance_scale,
        output_type="np",
    ).images
    return (np.nan_to_num(drawn).clip(0, 1) * 255).round().astype(np.uint8)


def show_samples(pipeline: Any, recipe: Recipe, path: Path) -> None:
    """Writes the pictures of the recipe's prompts side by side."""
    write_png(path, np.concatenate(list(draw_pictures(pipeline, recipe, list(recipe.evaluation.prompts), "sample")), 1))


@torch.no_grad()
def show_reconstructions(autoencoder: Any, crops: np.ndarray, path: Path) -> None:
    """Writes up to eight originals above what the autoencoder makes of them.

    Args:
        crops: (n, side, side, 3) uint8.
    """
    device = next(autoencoder.parameters()).device
    pixels = to_pixels(crops[:8]).to(device)
    encoded = autoencoder.encode(pixels)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    rows = (crops[:8], to_rgb(autoencoder.decode(latents).sample))
    write_png(path, np.concatenate([np.concatenate(list(row), 1) for row in rows], 0))
