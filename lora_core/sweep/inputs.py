"""Degraded photographs, encoded once, and the start noise that belongs to each."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lora_core.bases.base import Base, to_pixels
from lora_core.randomness import torch_generator
from lora_core.restoration import padded


@dataclass(frozen=True)
class Input:
    """A degraded photograph, encoded.

    Attributes:
        size: (height, width) before padding.
        pixels: float32 (3, height, width) in [-1, 1], padded to sides that the UNet accepts.
            On the CPU, for they are only looked at when a picture is finished.
        latents: float32 (channels, height, width), on the device.
        base: whose latents they are.
    """

    name: str
    size: tuple[int, int]
    pixels: Tensor
    latents: Tensor
    base: Base = field(repr=False, compare=False)

    @cached_property
    def dropped(self) -> Tensor:
        """What the autoencoder drops, x_in - D(E(x_in)); float32, shape of the pixels, on the CPU."""
        return self.pixels - self.base.decode(self.latents[None])[0].cpu()

    def noise(self, experiment_seed: int, seed: int = 0) -> Tensor:
        """Its start noise on the CPU, standard normal in the shape of the latents: a function of name and seeds."""
        key: tuple[int | str, ...] = ("start noise", experiment_seed, self.name, *([seed] if seed else []))
        return torch.randn(self.latents.shape, generator=torch_generator(*key))


@torch.no_grad()
def encode_inputs(base: Base, pictures: Mapping[str, np.ndarray], batch: int) -> list[Input]:
    """Encodes photographs of a size together.

    Args:
        pictures: (height, width, 3) uint8 by name.
        batch: how many at once.

    Returns:
        The inputs in the order of `pictures`.
    """
    by_size: dict[tuple[int, ...], list[str]] = defaultdict(list)
    framed = {name: padded(picture, base.multiple) for name, picture in pictures.items()}
    for name, picture in framed.items():
        by_size[picture.shape].append(name)
    made = {}
    for names in by_size.values():
        for first in range(0, len(names), batch):
            chunk = names[first : first + batch]
            pixels = to_pixels(np.stack([framed[name] for name in chunk])).to(base.device)
            latents = base.encode(pixels)
            pixels = pixels.cpu()
            for row, name in enumerate(chunk):
                size = pictures[name].shape[:2]
                made[name] = Input(name, (size[0], size[1]), pixels[row], latents[row], base)
    return [made[name] for name in pictures]
