"""Similarity of structure in other conventions than the core's: MS-SSIM, and SSIM as scikit-image computes it."""

import cv2
import numpy as np

from lora_core.metrics.core import grey, require_pair, require_side, ssim_of

MS_SSIM_CONVENTION = (
    "grey = 0.299 R + 0.587 G + 0.114 B in 0..255, rounded; five scales, 2x2 means, zeros before an odd side; "
    "exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; SSIM's window and constants, contrast-structure map clipped at "
    "0 (pyiqa)"
)
MS_SSIM_SIDE = 161
"""The smallest side that has the window's 11 pixels left at the fifth scale."""
SKIMAGE_CONVENTION = (
    "scikit-image's structural_similarity as it is: RGB, 7x7 uniform window, sample covariance, data range 255; "
    "not the field's, and lower by about 0.05"
)
SKIMAGE_SIDE = 7

_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Multi-scale SSIM in [0, 1]: the product of contrast-structure at five scales and of luminance at the last.

    Source: Wang, Simoncelli & Bovik 2003 (Asilomar), equation 7.

    Args:
        first, second: (h, w, 3) uint8 sRGB.

    Raises:
        DataError: the sizes differ, or a side is below 161 pixels.
    """
    require_pair(first, second)
    require_side(first, MS_SSIM_SIDE, "MS-SSIM")
    one, other = np.rint(grey(first)), np.rint(grey(second))
    product = 1.0
    for exponent in _EXPONENTS[:-1]:
        product *= ssim_of(one, other)[1] ** exponent
        one, other = _halved(one), _halved(other)
    return float(product * ssim_of(one, other)[0] ** _EXPONENTS[-1])


def ssim_skimage(first: np.ndarray, second: np.ndarray) -> float:
    """scikit-image's SSIM of two (h, w, 3) uint8 pictures, for comparison with numbers made by a plain call.

    Raises:
        DataError: the sizes differ, or a side is below 7 pixels.
    """
    from skimage.metrics import structural_similarity

    require_pair(first, second)
    require_side(first, SKIMAGE_SIDE, "scikit-image's SSIM")
    return float(structural_similarity(first, second, channel_axis=-1, data_range=255))


def _halved(channel: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks; an odd side is averaged with zeros before its first row or column."""
    top, left = (side % 2 for side in channel.shape)
    if top or left:
        channel = cv2.copyMakeBorder(channel, top, 0, left, 0, cv2.BORDER_CONSTANT, value=0)
    return (channel[::2, ::2] + channel[1::2, ::2] + channel[::2, 1::2] + channel[1::2, 1::2]) / 4
