"""GMSD: how unevenly the gradients of two pictures differ. Source: Xue et al. 2014 (IEEE TIP 23(2))."""

import cv2
import numpy as np

from lora_core.metrics.core import grey, require_pair, require_side

GMSD_CONVENTION = (
    "grey = 0.299 R + 0.587 G + 0.114 B in 0..255, rounded; 2x2 mean, downsampled by 2, an odd last row or column "
    "left out; Prewitt / 3 padded with zeros; c=170; sample deviation (pyiqa)"
)

_PREWITT = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]], np.float64) / 3
_C = 170.0


def gmsd(first: np.ndarray, second: np.ndarray) -> float:
    """Gradient magnitude similarity deviation: 0 for equal pictures, lower is better, about 0.35 at worst.

    Args:
        first, second: (h, w, 3) uint8 sRGB.

    Raises:
        DataError: the sizes differ, or the pictures are smaller than 4x4.
    """
    require_pair(first, second)
    require_side(first, 4, "GMSD")
    one, other = (_gradient_magnitude(_halved(np.rint(grey(picture)))) for picture in (first, second))
    similarity = (2 * one * other + _C) / (one**2 + other**2 + _C)
    return float(np.std(similarity, ddof=1))


def _halved(channel: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks."""
    height, width = (side - side % 2 for side in channel.shape)
    even = channel[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _gradient_magnitude(channel: np.ndarray) -> np.ndarray:
    across, down = (
        cv2.filter2D(channel, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT) for kernel in (_PREWITT, _PREWITT.T)
    )
    return np.sqrt(across**2 + down**2)
