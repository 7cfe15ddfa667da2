"""Where the UNet's latents come from: encoded in the step, or once for all images and kept in files.

Encoding in the step sees every crop of a photograph; cached latents see crops on the latents' grid, but cost the
autoencoder only once. The cache is made in parts of a thousand images, each whole or not at all, so that a killed run
goes on at the part it was at.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lora_core.bases.base import to_pixels
from lora_core.errors import ConfigError
from lora_core.files import read_json, write_json, write_with
from lora_core.pretraining.data.batches import ImageStream
from lora_core.pretraining.recipe import DataSection, Recipe
from lora_core.randomness import numpy_generator

PART = 1000
"""Images a file of the cache."""
GIB = 2**30


class Encoder:
    """A frozen autoencoder on its device: pixels to scaled latents."""

    def __init__(self, autoencoder: Any, device: torch.device):
        self.autoencoder = autoencoder.to(device, memory_format=torch.channels_last)
        self.device = device
        self.factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.channels = int(autoencoder.config.latent_channels)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) in [-1, 1] to float32 (batch, channels, height / factor, width / factor)."""
        encoded = self.autoencoder.encode(pixels.to(self.device, memory_format=torch.channels_last))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latents.float() * self.autoencoder.config.scaling_factor


class LatentSource(Protocol):
    """Latents and captions by position.

    Attributes:
        size: images in the set.
        shape: of one image's latents, (channels, side, side).
    """

    device: torch.device
    size: int
    shape: tuple[int, int, int]

    def prepare(self, positions: range) -> dict[str, Any]:
        """What `latents` needs, and "captions", on the CPU."""

    def latents(self, batch: dict[str, Any]) -> Tensor:
        """Float32 (batch, channels, side, side) on the device."""

    def names(self, positions: range) -> list[str]:
        """The records at these positions."""


class EncodedInStep:
    """Encodes the images of each batch."""

    def __init__(self, encoder: Encoder, stream: ImageStream, image_size: int):
        side = image_size // encoder.factor
        self.encoder, self.stream, self.image_size = encoder, stream, image_size
        self.device, self.size, self.shape = encoder.device, len(stream.records), (encoder.channels, side, side)

    def prepare(self, positions: range) -> dict[str, Any]:
        """Pixels, float32 (batch, 3, image_size, image_size), and captions."""
        pixels = torch.from_numpy(self.stream.pixels(positions, self.image_size))
        return {"pixels": pixels, "captions": self.stream.captions(positions)}

    def latents(self, batch: dict[str, Any]) -> Tensor:
        """Encodes the batch."""
        return self.encoder(batch["pixels"])

    def names(self, positions: range) -> list[str]:
        """The records at these positions."""
        return self.stream.names(positions)


class Cached:
    """Reads latents of whole images, and of their mirror images, from the parts that `cache_latents` wrote."""

    def __init__(self, folder: Path, encoder: Encoder, stream: ImageStream, section: DataSection):
        side = section.image_size // encoder.factor
        self.folder, self.stream, self.flip = folder, stream, section.flip
        self.device, self.size, self.shape = encoder.device, len(stream.records), (encoder.channels, side, side)
        self._part = lru_cache(maxsize=64)(self._open)

    def prepare(self, positions: range) -> dict[str, Any]:
        """Latent crops, float32 (batch, channels, side, side), and captions."""
        rows = [self._crop(place, self.stream.record_number(place)) for place in positions]
        return {"latents": torch.from_numpy(np.stack(rows)), "captions": self.stream.captions(positions)}

    def latents(self, batch: dict[str, Any]) -> Tensor:
        """The crops on the device."""
        return batch["latents"].to(self.device)

    def names(self, positions: range) -> list[str]:
        """The records at these positions."""
        return self.stream.names(positions)

    def _crop(self, position: int, number: int) -> np.ndarray:
        places, values = self._part(number // PART)
        start, height, width = places[number % PART]
        channels, side, _ = self.shape
        draw = numpy_generator("latent crop", self.stream.seed, position)
        top, left = (int(draw.integers(length - side + 1)) for length in (height, width))
        mirrored = bool(self.flip and draw.random() < 0.5)
        whole = values[start : start + 2 * channels * height * width].reshape(2, channels, height, width)
        return whole[int(mirrored), :, top : top + side, left : left + side].astype(np.float32)

    def _open(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        return np.load(_places(self.folder, part)), np.load(_values(self.folder, part), mmap_mode="r")


def cache_latents(
    folder: Path,
    encoder: Encoder,
    stream: ImageStream,
    section: DataSection,
    digest: str,
    progress: Callable[[int], Any],
) -> None:
    """Encodes every image of the set once; parts that are there are kept.

    Args:
        digest: of the autoencoder, the images and their framing.
        progress: called with the number of images done.

    Raises:
        ConfigError: the folder holds the latents of something else.
    """
    header = {"digest": digest, "images": len(stream.records), "part": PART}
    if (folder / "cache.json").exists() and read_json(folder / "cache.json") != header:
        raise ConfigError(f"{folder} holds the latents of other images or another autoencoder; move it away")
    write_json(folder / "cache.json", header)
    for part in range(-(-len(stream.records) // PART)):
        numbers = range(part * PART, min((part + 1) * PART, len(stream.records)))
        if not _values(folder, part).exists():
            _write_part(folder, part, encoder, stream, section, numbers)
        progress(numbers.stop)


def _write_part(
    folder: Path, part: int, encoder: Encoder, stream: ImageStream, section: DataSection, numbers: range
) -> None:
    places, values, start = [], [], 0
    for number in numbers:
        image = stream.whole(number, section.image_size)
        height, width = (side - side % encoder.factor for side in image.shape[:2])
        pixels = to_pixels(image[None, :height, :width])
        latents = encoder(torch.cat([pixels, pixels.flip(-1)])).cpu().numpy().astype(np.float16)
        places.append((start, *latents.shape[2:]))
        values.append(latents.ravel())
        start += latents.size
    write_with(_places(folder, part), lambda file: np.save(file, np.array(places, np.int64)))
    write_with(_values(folder, part), lambda file: np.save(file, np.concatenate(values)))


def cache_bytes(section: DataSection, photos: int, channels: int, factor: int) -> int:
    """About what the cache takes on disk, for photographs of shape 3:2."""
    return int(photos * 2 * 2 * channels * (section.image_size / factor) ** 2 * 1.5)


def use_cache(recipe: Recipe, photos: int, channels: int, factor: int) -> bool:
    """Whether the recipe caches latents; images that are degraded anew each time cannot be.

    Raises:
        ConfigError: it asks for it where windows at full resolution are wanted.
    """
    section = recipe.data
    if section.cache == "latents" and (section.framing == "crop" or recipe.unet.restoration_share):
        raise ConfigError(
            "data.cache: latents are cached of images of one size that are not degraded; set data.framing=resize and "
            "unet.restoration_share=0, or data.cache=none"
        )
    if recipe.unet.restoration_share:
        return False
    fits = cache_bytes(section, photos, channels, factor) <= section.cache_limit * GIB
    return section.cache == "latents" or (section.cache == "auto" and section.framing == "resize" and fits)


def _places(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.places.npy"


def _values(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.npy"
