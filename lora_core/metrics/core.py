"""PSNR and SSIM, on the luma and in RGB.

Every function takes two (h, w, 3) uint8 sRGB pictures of equal size and computes in float64. The conventions are the
super-resolution field's (pyiqa, Real-ESRGAN, StableSR, OSEDiff: Y of YCbCr as MATLAB's `rgb2ycbcr` defines it); the
same pictures read about 1.5 dB and 0.05 SSIM lower in RGB, so a number without its convention says nothing.

Source: SSIM, Wang et al. 2004 (IEEE TIP 13(4)).
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from lora_core.errors import DataError

PSNR_CAP = 100.0
"""PSNR in dB of identical pictures, and the most that any pair gets: an infinite one would make every mean infinite."""

_Y = "Y of YCbCr (BT.601, MATLAB rgb2ycbcr, 16..235)"
_WINDOW = "11x11 Gaussian, sigma 1.5, valid region, population covariance, C1=(0.01*255)^2, C2=(0.03*255)^2"
_CAP = f"identical pictures count as {PSNR_CAP:g} dB, which is also the cap"
CONVENTIONS = {
    "psnr_y": f"dB; {_Y}, not rounded; peak 255; no border crop; {_CAP}",
    "psnr_rgb": f"dB; mean squared error over the three channels of 8-bit sRGB; peak 255; no border crop; {_CAP}",
    "ssim_y": f"{_Y}, rounded; {_WINDOW}; contrast-structure map clipped at 0; no downsampling (pyiqa)",
    "ssim_rgb": f"mean over R, G, B; {_WINDOW} (scikit-image: gaussian_weights, sigma 1.5, no sample covariance)",
}

_TO_LUMA = np.array([[65.481 / 255, 128.553 / 255, 24.966 / 255, 16.0]])
_TO_GREY = np.array([[299.0, 587.0, 114.0]])  # thousandths, so that a value that ends in .5 is exactly that
_GAUSSIAN = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
_MARGIN = 5
_BAND = 65_536  # pixels
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of YCbCr as MATLAB's `rgb2ycbcr`: 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        rgb: (h, w, 3) uint8 sRGB.

    Returns:
        (h, w) float64 in [16, 235], not rounded.
    """
    return cv2.transform(rgb.astype(np.float64), _TO_LUMA)


def grey(rgb: np.ndarray) -> np.ndarray:
    """Y of YIQ, which is MATLAB's `rgb2gray` unrounded: 0.299 R + 0.587 G + 0.114 B; (h, w) float64 in [0, 255]."""
    return cv2.transform(rgb.astype(np.float64), _TO_GREY) / 1000


def psnr_y(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of the luma in dB, at most `PSNR_CAP`. Raises as `require_pair`."""
    require_pair(first, second)
    return _psnr_of(luma(first), luma(second))


def psnr_rgb(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of the three colour channels together in dB, at most `PSNR_CAP`. Raises as `require_pair`."""
    require_pair(first, second)
    return _psnr(cv2.norm(first, second, cv2.NORM_L2SQR) / first.size)


def ssim_y(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM of the rounded luma in [0, 1], the contrast-structure map clipped at 0.

    Raises:
        DataError: the sizes differ, or a side is shorter than the 11 pixels of the window.
    """
    require_pair(first, second)
    return ssim_of(np.rint(luma(first)), np.rint(luma(second)))[0]


def ssim_rgb(first: np.ndarray, second: np.ndarray) -> float:
    """Mean of the SSIM of red, green and blue, in [-1, 1]. Raises as `ssim_y`."""
    require_pair(first, second)
    channels = zip(cv2.split(first), cv2.split(second), strict=True)
    return float(np.mean([_plain_ssim(one.astype(np.float64), other.astype(np.float64)) for one, other in channels]))


def fidelity(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """All four by name, as the functions above; the luma is computed once. Raises as `ssim_y`."""
    require_pair(first, second)
    one, other = luma(first), luma(second)
    return {
        "psnr_y": _psnr_of(one, other),
        "psnr_rgb": psnr_rgb(first, second),
        "ssim_y": ssim_of(np.rint(one), np.rint(other))[0],
        "ssim_rgb": ssim_rgb(first, second),
    }


def ssim_of(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """SSIM and mean contrast-structure of two (h, w) float64 channels in 0..255, the latter's map clipped at 0.

    Raises:
        DataError: a side is shorter than 11 pixels.
    """
    ssim = structure = 0.0
    for luminance, contrast_structure in _ssim_maps(first, second):
        np.maximum(contrast_structure, 0, out=contrast_structure)
        structure += float(np.sum(contrast_structure))
        ssim += float(np.sum(np.multiply(luminance, contrast_structure, out=luminance)))
    size = (first.shape[0] - 2 * _MARGIN) * (first.shape[1] - 2 * _MARGIN)
    return ssim / size, structure / size


def require_pair(first: np.ndarray, second: np.ndarray) -> None:
    """Checks that two pictures can be compared.

    Raises:
        ValueError: one is no (h, w, 3) uint8 array.
        DataError: their sizes differ.
    """
    for picture in (first, second):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is (h, w, 3) uint8, this is {picture.shape} {picture.dtype}")
    if first.shape != second.shape:
        sizes = " and ".join(f"{picture.shape[1]}x{picture.shape[0]}" for picture in (first, second))
        raise DataError(f"pictures of different size cannot be compared: {sizes} (width x height)")


def require_side(picture: np.ndarray, side: int, metric: str) -> None:
    """Raises DataError where a (h, w) or (h, w, 3) picture is smaller than the metric can see."""
    if min(picture.shape[:2]) < side:
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise DataError(f"{metric} needs pictures of at least {side}x{side} pixels, this one has {size}")


def _psnr_of(first: np.ndarray, second: np.ndarray) -> float:
    return _psnr(cv2.norm(first, second, cv2.NORM_L2SQR) / first.size)


def _psnr(mean_squared_error: float) -> float:
    return min(PSNR_CAP, 10 * math.log10(255**2 / mean_squared_error)) if mean_squared_error else PSNR_CAP


def _plain_ssim(first: np.ndarray, second: np.ndarray) -> float:
    size = (first.shape[0] - 2 * _MARGIN) * (first.shape[1] - 2 * _MARGIN)
    return sum(float(np.sum(luminance * structure)) for luminance, structure in _ssim_maps(first, second)) / size


def _ssim_maps(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Luminance and contrast-structure maps of two (h, w) float64 channels in 0..255.

    They come in bands of rows, which together are (h-10, w-10): a band stays in the processor's cache, whole maps
    take more than twice the time.
    """
    require_side(first, 2 * _MARGIN + 1, "SSIM")
    rows = max(16, _BAND // first.shape[1])
    for top in range(0, first.shape[0] - 2 * _MARGIN, rows):
        band = slice(top, top + rows + 2 * _MARGIN)
        yield _maps_of_band(first[band], second[band])


def _maps_of_band(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_1, mean_2 = _local_mean(first), _local_mean(second)
    product = mean_1 * mean_2
    squares = mean_1**2 + mean_2**2
    covariance = _local_mean(first * second) - product
    variances = _local_mean(first**2 + second**2) - squares
    return (2 * product + _C1) / (squares + _C1), (2 * covariance + _C2) / (variances + _C2)


def _local_mean(channel: np.ndarray) -> np.ndarray:
    """Gaussian mean where the whole window lies inside the picture, so the padding plays no part."""
    blurred = cv2.sepFilter2D(channel, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_REFLECT)
    return blurred[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
