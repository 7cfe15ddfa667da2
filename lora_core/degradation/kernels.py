"""Blur kernels: Gaussian, generalised Gaussian, plateau and sinc.

Each function returns a (size, size) float32 array that sums to 1; `size` is odd, lengths are pixels, angles radians.
With the squared Mahalanobis distance q = (u / sigma_x)^2 + (v / sigma_y)^2 in rotated coordinates (u, v), the shapes
are exp(-q / 2), exp(-q^beta / 2) and 1 / (1 + q^beta) (Real-ESRGAN, arXiv:2107.10833, section 3.1).
"""

import numpy as np
from scipy.special import j1  # type: ignore[import-untyped]


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float, rotation: float) -> np.ndarray:
    """The bivariate Gaussian; isotropic where both sigmas are equal."""
    return _normalised(np.exp(-0.5 * _squared_distance(size, sigma_x, sigma_y, rotation)))


def generalised_kernel(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float) -> np.ndarray:
    """The generalised Gaussian: heavier tails for beta below 1, a flatter top above; beta = 1 is the Gaussian."""
    return _normalised(np.exp(-0.5 * _squared_distance(size, sigma_x, sigma_y, rotation) ** beta))


def plateau_kernel(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float) -> np.ndarray:
    """The plateau-shaped kernel, flat inside one sigma and falling as a power of the distance outside."""
    return _normalised(1 / (1 + _squared_distance(size, sigma_x, sigma_y, rotation) ** beta))


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """The ideal circular low-pass, cut to `size`: cutoff J1(cutoff r) / (2 pi r), which rings as sharpening does.

    Args:
        size: odd number of pixels.
        cutoff: radians a pixel, at most pi.
    """
    axis = np.arange(size) - size // 2
    radius = np.hypot(*np.meshgrid(axis, axis))
    away = np.where(radius > 0, radius, 1)
    return _normalised(np.where(radius > 0, cutoff * j1(cutoff * away) / (2 * np.pi * away), cutoff**2 / (4 * np.pi)))


def _squared_distance(size: int, sigma_x: float, sigma_y: float, rotation: float) -> np.ndarray:
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    along = x * np.cos(rotation) + y * np.sin(rotation)
    across = y * np.cos(rotation) - x * np.sin(rotation)
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return (kernel / kernel.sum()).astype(np.float32)
