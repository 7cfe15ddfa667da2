"""Noise that is not white: a shift of each channel, and coarser noise on top of fine.

Both are functions of one image's own generator, so that a batch's split never changes them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from lora_core.experiment import ObjectiveSection

_LEVELS = 6


def draw_noise(shape: tuple[int, ...], section: ObjectiveSection, generator: torch.Generator) -> Tensor:
    """The noise of one image.

    With `noise_offset` each channel is shifted by a normal draw of that deviation (Guttenberg 2023); with
    `pyramid_noise` d, noise of half the size each time is added with weights d, d^2, … and the sum is scaled back to
    deviation 1 (Whitaker 2023). Both 0: standard normal.

    Args:
        shape: (channels, height, width).

    Returns:
        float32 of that shape.
    """
    noise = torch.randn(shape, generator=generator)
    if section.pyramid_noise:
        channels, height, width = shape
        for level in range(1, _LEVELS):
            size = (max(1, height >> level), max(1, width >> level))
            coarse = torch.randn(1, channels, *size, generator=generator)
            noise += section.pyramid_noise**level * functional.interpolate(coarse, (height, width), mode="bilinear")[0]
            if size == (1, 1):
                break
        noise /= noise.std()
    if section.noise_offset:
        noise += section.noise_offset * torch.randn(shape[0], 1, 1, generator=generator)
    return noise
