"""Colour and sharpness: the difference that a person would name."""

import cv2
import numpy as np

from lora_core.metrics.core import grey, require_pair

CIEDE2000_CONVENTION = "mean colour difference dE00 (CIE 2000, kL=kC=kH=1) of sRGB under D65 (scikit-image); 0 is equal"
COLOUR_SHIFT_CONVENTION = (
    "mean dE00 between both pictures shrunk by area means to 64 pixels on the shorter side and blurred (Gaussian, "
    "sigma 2): colour that is off over an area, whatever the detail; about 1 can just be seen side by side"
)
SHARPNESS_CONVENTION = (
    "mean squared gradient of the grey picture (Sobel) over the original's: 1 is as sharp, below is softer, above is "
    "sharper or noisier than the original"
)

_SHORT_SIDE = 64
_SIGMA = 2.0
_FLAT = 1e-3
"""Squared gradient, in levels squared, that both sides get, so that a flat picture has a ratio too."""


def ciede2000(first: np.ndarray, second: np.ndarray) -> float:
    """Mean colour difference of two (h, w, 3) uint8 pictures in units of dE00. Raises as `require_pair`."""
    require_pair(first, second)
    return _difference(_unit(first), _unit(second))


def colour_shift(restored: np.ndarray, original: np.ndarray) -> float:
    """Mean dE00 of the strongly blurred (h, w, 3) uint8 pictures. Raises as `require_pair`."""
    require_pair(restored, original)
    height, width = original.shape[:2]
    shrink = max(1.0, min(height, width) / _SHORT_SIDE)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    one, other = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (restored, original))
    return _difference(*(cv2.GaussianBlur(_unit(small), (0, 0), _SIGMA) for small in (one, other)))


def sharpness(restored: np.ndarray, original: np.ndarray) -> float:
    """Gradient energy of a (h, w, 3) uint8 picture over the original's. Raises as `require_pair`."""
    require_pair(restored, original)
    one, other = (_gradient_energy(grey(picture)) for picture in (restored, original))
    return (one + _FLAT) / (other + _FLAT)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Of (h, w, 3) float32 in 0..1. In float64 it takes three times as long and moves the mean by 1e-5."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(np.mean(deltaE_ciede2000(rgb2lab(first), rgb2lab(second)), dtype=np.float64))


def _unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255


def _gradient_energy(channel: np.ndarray) -> float:
    """Mean of gx² + gy², in levels per pixel, squared; Sobel kernels divided by 8."""
    across, down = (cv2.Sobel(channel, cv2.CV_64F, *direction, scale=1 / 8) for direction in ((1, 0), (0, 1)))
    return (cv2.norm(across, cv2.NORM_L2SQR) + cv2.norm(down, cv2.NORM_L2SQR)) / channel.size
