"""Colours of the input put back into a restored picture, for a diffusion model may shift them.

Both ways are StableSR's (Wang et al. 2023, section 3.4): `adain` gives each channel the input's mean and deviation,
`wavelet` the input's coarse shades, everything wider than the finest five octaves.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 5
_KERNEL = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


def adain(restored: Tensor, source: Tensor) -> Tensor:
    """Mean and deviation of each channel as in the source (Huang & Belongie 2017, equation 8).

    Args:
        restored, source: float32 (batch, 3, height, width).
    """
    deviation, mean = torch.std_mean(restored, dim=(2, 3), keepdim=True)
    wanted_deviation, wanted_mean = torch.std_mean(source, dim=(2, 3), keepdim=True)
    return (restored - mean) / deviation.clamp(min=1e-5) * wanted_deviation + wanted_mean


def wavelet(restored: Tensor, source: Tensor) -> Tensor:
    """Details of the restored picture on the coarse shades of the source, by the a trous wavelet transform.

    Args:
        restored, source: float32 (batch, 3, height, width).
    """
    return restored - _coarse(restored) + _coarse(source)


def _coarse(pixels: Tensor) -> Tensor:
    """What is left after the finest octaves: blurred by a 3x3 binomial kernel whose taps move apart by powers of 2."""
    kernel = _KERNEL.to(pixels).expand(pixels.shape[1], 1, 3, 3)
    for level in range(_LEVELS):
        reach = 2**level
        framed = functional.pad(pixels, (reach,) * 4, mode="replicate")
        pixels = functional.conv2d(framed, kernel, dilation=reach, groups=pixels.shape[1])
    return pixels


COLOUR_FIXES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda restored, source: restored,
    "adain": adain,
    "wavelet": wavelet,
}
"""By the names of the experiment: (restored, input) to the picture, float32 (batch, 3, height, width)."""
