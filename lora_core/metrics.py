"""Full-reference metrics, each in one stated convention.

Every function takes two (h, w, 3) uint8 sRGB pictures of equal size and returns a float computed in float64. The
conventions are the super-resolution field's (pyiqa, Real-ESRGAN, StableSR, OSEDiff: Y of YCbCr as MATLAB's `rgb2ycbcr`
defines it); the same pictures read about 1.5 dB and 0.05 SSIM lower in RGB, so a number without its convention says
nothing. `CONVENTIONS` is stored with every table.

Sources: SSIM, Wang et al. 2004 (IEEE TIP 13(4)); GMSD, Xue et al. 2014 (IEEE TIP 23(2)), after the authors' code.
"""

import math

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
    "gmsd": f"{_Y}, not rounded; 2x2 mean, downsampled by 2; Prewitt / 3 padded with zeros; c=170; sample deviation",
}
"""What each metric means, one line a metric."""

_TO_LUMA = np.array([[65.481 / 255, 128.553 / 255, 24.966 / 255, 16.0]])
_GAUSSIAN = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
_MARGIN = 5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2
_PREWITT = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]], np.float64) / 3
_GMSD_C = 170.0


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of YCbCr as MATLAB's `rgb2ycbcr`: 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        rgb: (h, w, 3) uint8 sRGB.

    Returns:
        (h, w) float64 in [16, 235], not rounded.
    """
    return cv2.transform(rgb.astype(np.float64), _TO_LUMA)


def psnr_y(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of the luma in dB, at most `PSNR_CAP`. Raises as `require_pair`."""
    require_pair(first, second)
    return _psnr(float(np.mean(np.square(luma(first) - luma(second)))))


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
    luminance, contrast_structure = _ssim_maps(np.rint(luma(first)), np.rint(luma(second)))
    return float(np.mean(luminance * np.maximum(contrast_structure, 0)))


def ssim_rgb(first: np.ndarray, second: np.ndarray) -> float:
    """Mean of the SSIM of red, green and blue, in [-1, 1]. Raises as `ssim_y`."""
    require_pair(first, second)
    channels = zip(cv2.split(first), cv2.split(second), strict=True)  # one at a time: a third of the memory, and faster
    maps = (_ssim_maps(one.astype(np.float64), other.astype(np.float64)) for one, other in channels)
    return float(np.mean([np.mean(luminance * contrast_structure) for luminance, contrast_structure in maps]))


def gmsd(first: np.ndarray, second: np.ndarray) -> float:
    """Gradient magnitude similarity deviation of the luma: 0 for equal pictures, lower is better, about 0.35 at worst.

    Raises:
        DataError: the sizes differ, or the pictures are smaller than 3x3.
    """
    require_pair(first, second)
    _require_side(first, 3, "GMSD")
    one, other = (_gradient_magnitude(_halved(luma(picture))) for picture in (first, second))
    similarity = (2 * one * other + _GMSD_C) / (one**2 + other**2 + _GMSD_C)
    return float(np.std(similarity, ddof=1))


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


def _require_side(picture: np.ndarray, side: int, metric: str) -> None:
    if min(picture.shape[:2]) < side:
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise DataError(f"{metric} needs pictures of at least {side}x{side} pixels, this one has {size}")


def _psnr(mean_squared_error: float) -> float:
    return min(PSNR_CAP, 10 * math.log10(255**2 / mean_squared_error)) if mean_squared_error else PSNR_CAP


def _ssim_maps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast-structure maps, (h-10, w-10), of two (h, w) float64 channels in 0..255."""
    _require_side(first, 2 * _MARGIN + 1, "SSIM")
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


def _halved(channel: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks; an odd last row or column is averaged with zeros, as MATLAB's conv2(..., 'same') does."""
    height, width = channel.shape
    even = np.pad(channel, ((0, height % 2), (0, width % 2)))
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _gradient_magnitude(channel: np.ndarray) -> np.ndarray:
    across, down = (
        cv2.filter2D(channel, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT) for kernel in (_PREWITT, _PREWITT.T)
    )
    return np.sqrt(across**2 + down**2)
