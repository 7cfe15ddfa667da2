"""A small autoencoder (diffusers' AutoencoderTiny), trained before the UNet.

The loss is L1 + MSE between the photograph and its reconstruction. There is no discriminator and no perceptual term:
the restoration loop measures fidelity, and a generator's invented texture would be a floor under every score.

The *principal* encoder is not trained at all. Its three convolutions gather each 4x4 square of pixels into a cell, and
the last one projects the 48 values on their first principal components (Pearson 1901), each divided by the square root
of its standard deviation so that fine detail is not lost beside brightness. Sixteen components keep 37 dB of the
photographs here, where encoders trained for an hour kept 29; the latents of a run are known before it starts, so that
UNet and decoder train independently; and a squared error of latents is one of pixels. Only the decoder is trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.errors import BaseModelError
from lora_core.files import whole_folder
from lora_core.metrics import psnr_rgb
from lora_core.pretraining.data.batches import ImageStream, centre_crops
from lora_core.pretraining.recipe import AutoencoderSection, Recipe
from lora_core.randomness import seed_for, torch_generator

CROP = 128
"""Side of the centre crops that reconstruction is measured on, in pixels."""
_CELL, _OFFSET = 4, 1.5
_SAMPLED_CROPS, _CROPS_A_PHOTO = 4096, 16


def build_autoencoder(section: AutoencoderSection, seed: int, stream: ImageStream) -> AutoencoderTiny:
    """A freshly initialised autoencoder, a function of the seed and, with a principal encoder, of the photographs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("autoencoder", seed))
        levels = len(section.encoder_blocks)
        autoencoder = AutoencoderTiny(
            encoder_block_out_channels=(section.width,) * levels,
            decoder_block_out_channels=(section.width,) * levels,
            num_encoder_blocks=section.encoder_blocks,
            num_decoder_blocks=section.decoder_blocks,
            latent_channels=section.latent_channels,
            act_fn="silu",
            scaling_factor=1.0,
        )
    if section.encoder == "principal":
        count = min(_SAMPLED_CROPS, _CROPS_A_PHOTO * len(stream.records))
        crops = [stream.pixels(range(first, first + 64), 64) for first in range(0, count, 64)]
        fix_encoder(autoencoder.encoder, *principal_components(np.concatenate(crops), section.latent_channels))
        autoencoder.encoder.requires_grad_(False)
    scale_latents(autoencoder, stream)
    return autoencoder


def principal_components(pixels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The projection on the first principal components of 4x4 squares, whitened by half.

    Args:
        pixels: (n, 3, height, width) float32 in [-1, 1], sides multiples of 4.
        count: components, at most 48.

    Returns:
        (count, 3, 4, 4) weights and (count,) bias, float32.
    """
    n, _, height, width = pixels.shape
    squares = pixels.reshape(n, 3, height // _CELL, _CELL, width // _CELL, _CELL).transpose(0, 2, 4, 1, 3, 5)
    flat = squares.reshape(-1, 3 * _CELL * _CELL).astype(np.float64)
    mean = flat.mean(0)
    variances, vectors = np.linalg.eigh(np.cov((flat - mean).T))
    vectors = vectors[:, ::-1][:, :count]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(count)])  # eigh leaves the sign open
    projection = 0.5 * (vectors * variances[::-1][:count] ** -0.25).T  # half: the decoder begins with 3 tanh(z / 3)
    return projection.reshape(count, 3, _CELL, _CELL).astype(np.float32), (-projection @ mean).astype(np.float32)


@torch.no_grad()
def fix_encoder(encoder: Any, weights: np.ndarray, bias: np.ndarray) -> None:
    """Sets an EncoderTiny of three resolutions so that it answers conv(pixels, weights, bias, stride 4) exactly.

    Two convolutions of stride 2 each move a square of 2x2 values into channels; residual blocks add nothing. An offset
    keeps every value positive, as the blocks end in a ReLU. EncoderTiny itself maps pixels to [0, 1] first.
    """
    convolutions: list[Any] = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    first, *gathering, last = convolutions
    for convolution in convolutions:
        convolution.weight.zero_()
        if convolution.bias is not None:
            convolution.bias.zero_()
    for block in encoder.layers:
        if hasattr(block, "fuse"):
            block.conv[-1].weight.zero_()
            block.conv[-1].bias.zero_()
    first.bias[:3] = _OFFSET
    first.weight[range(3), range(3), 1, 1] = 1
    for convolution, channels in zip(gathering, (3, 12), strict=True):
        for row, column in np.ndindex(2, 2):
            own = (2 * row + column) * channels
            convolution.weight[range(own, own + channels), range(channels), 1 + row, 1 + column] = 1
    projection = torch.from_numpy(weights)
    for outer_row, outer_column, row, column in np.ndindex(2, 2, 2, 2):
        own = (2 * outer_row + outer_column) * 12 + (2 * row + column) * 3
        last.weight[:, own : own + 3, 1, 1] = 2 * projection[:, :, 2 * outer_row + row, 2 * outer_column + column]
    last.bias.copy_(torch.from_numpy(bias) - (1 + 2 * _OFFSET) * projection.sum((1, 2, 3)))


@torch.no_grad()
def scale_latents(autoencoder: AutoencoderTiny, stream: ImageStream) -> None:
    """Sets the configuration's scaling factor, so that latents have unit mean square over the photographs."""
    pixels = torch.from_numpy(stream.pixels(range(256), 64))
    latents = autoencoder.encode(pixels).latents
    autoencoder.register_to_config(scaling_factor=round(float(latents.square().mean().rsqrt()), 5))


class Reconstruction(nn.Module):
    """D(E(x) + noise)."""

    def __init__(self, autoencoder: AutoencoderTiny):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """`pixels` (batch, 3, height, width) in [-1, 1], `noise` of the latents' shape."""
        return self.autoencoder.decode(self.autoencoder.encode(pixels).latents + noise).sample


@dataclass
class AutoencoderStage:
    """The autoencoder as what a `Loop` trains."""

    module: nn.Module
    recipe: Recipe
    stream: ImageStream
    held_out: np.ndarray
    device: torch.device

    @classmethod
    def of(
        cls, recipe: Recipe, stream: ImageStream, validation: ImageStream, device: torch.device
    ) -> "AutoencoderStage":
        """A fresh autoencoder and its validation crops, (n, 128, 128, 3) uint8."""
        autoencoder = build_autoencoder(recipe.autoencoder, recipe.seed, stream)
        module = Reconstruction(autoencoder).to(device).to(memory_format=torch.channels_last)
        return cls(module, recipe, stream, centre_crops(validation, recipe.evaluation.images, CROP), device)

    def prepare(self, positions: range) -> dict[str, Any]:
        """Crops and the noise of their latents."""
        section = self.recipe.autoencoder
        side = section.crop // 2 ** (len(section.encoder_blocks) - 1)
        noise = [
            torch.randn(
                (section.latent_channels, side, side), generator=torch_generator("latent", self.recipe.seed, place)
            )
            for place in positions
        ]
        pixels = torch.from_numpy(self.stream.pixels(positions, section.crop))
        return {
            "pixels": pixels.contiguous(memory_format=torch.channels_last),
            "noise": section.latent_noise * torch.stack(noise),
        }

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """L1 + MSE of the reconstruction."""
        pixels = batch["pixels"].to(self.device)
        return reconstruction_loss(self.module(pixels, batch["noise"].to(self.device)), pixels)

    def validate(self) -> dict[str, Any]:
        """The loss without noise, and the mean PSNR-RGB of 8-bit reconstructions, on held-out crops."""
        losses, scores = [], []
        for crop in self.held_out:
            pixels = to_pixels(crop[None]).to(self.device)
            decoded = self.module(pixels, torch.zeros((), device=self.device))
            losses.append(reconstruction_loss(decoded, pixels).item())
            scores.append(psnr_rgb(crop, to_rgb(decoded)[0]))
        return {"loss": float(np.mean(losses)), "psnr_rgb": float(np.mean(scores))}

    def names(self, positions: range) -> list[str]:
        """The records at these positions."""
        return self.stream.names(positions)


def reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """L1 + MSE, a scalar."""
    error = decoded - pixels
    return error.abs().mean() + error.square().mean()


def save_autoencoder(autoencoder: Any, folder: Path) -> None:
    """Writes the autoencoder in float32, whole or not at all."""
    with whole_folder(folder) as temporary:
        autoencoder.save_pretrained(temporary, safe_serialization=True)


def open_autoencoder(folder: Path) -> Any:
    """A trained autoencoder, AutoencoderTiny or AutoencoderKL, float32, frozen.

    Args:
        folder: the autoencoder's own folder, or a base's.

    Raises:
        BaseModelError: there is none, or it does not load.
    """
    own = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (own / "config.json").exists():
        raise BaseModelError(f"autoencoder.model: {folder} holds no autoencoder (no config.json in it or in vae/)")
    kind = AutoencoderKL if '"AutoencoderKL"' in (own / "config.json").read_text(encoding="utf-8") else AutoencoderTiny
    try:
        autoencoder = kind.from_pretrained(own, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True)
    except Exception as error:  # diffusers raises many kinds for files that do not fit together
        raise BaseModelError(f"autoencoder.model: {own} does not load: {' '.join(str(error).split())[:300]}") from error
    return autoencoder.requires_grad_(False).eval()
