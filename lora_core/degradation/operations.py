"""The operations that a degradation is made of, with every parameter decided.

A picture is (height, width, 3) float32 RGB, nominally in [0, 1]; blur and resize may leave that range, noise and JPEG
clip to it. Borders are mirrored (reflect-101). `size` is the (width, height) of the undegraded photograph, and `draw`
gives the noise field, the only part of an operation that is not among its parameters.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from lora_core.degradation.kernels import gaussian_kernel, generalised_kernel, plateau_kernel, sinc_kernel

Interpolation = Literal["area", "bilinear", "bicubic"]
Shape = Literal["gaussian", "generalised", "plateau"]
Size = tuple[int, int]

_INTERPOLATIONS = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
_GREY_WEIGHTS = np.array([0.2989, 0.5870, 0.1140], np.float32)


@dataclass(frozen=True)
class Blur:
    """Convolution with one of the bivariate kernels.

    Attributes:
        shape: the family of the kernel.
        kernel_size: odd number of pixels.
        sigma_x: pixels along the rotated axis.
        sigma_y: pixels across it; equal to `sigma_x` where the kernel is isotropic.
        rotation: radians, 0 where the kernel is isotropic.
        beta: exponent of the generalised and plateau shapes; 1 for the Gaussian.
    """

    shape: Shape
    kernel_size: int
    sigma_x: float
    sigma_y: float
    rotation: float
    beta: float

    def kernel(self) -> np.ndarray:
        """(kernel_size, kernel_size) float32, sum 1."""
        place = (self.kernel_size, self.sigma_x, self.sigma_y, self.rotation)
        if self.shape == "gaussian":
            return gaussian_kernel(*place)
        return (generalised_kernel if self.shape == "generalised" else plateau_kernel)(*place, self.beta)

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The blurred picture."""
        return cv2.filter2D(image, -1, self.kernel(), borderType=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class Sinc:
    """Convolution with the sinc kernel: ringing and overshoot.

    Attributes:
        kernel_size: odd number of pixels.
        cutoff: radians a pixel.
    """

    kernel_size: int
    cutoff: float

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The low-passed picture."""
        kernel = sinc_kernel(self.kernel_size, self.cutoff)
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class Resize:
    """Resize to a share of the photograph's own size, whatever the size is now.

    Attributes:
        scale: 1 is the photograph's size.
        interpolation: as OpenCV does it.
    """

    scale: float
    interpolation: Interpolation

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The resized picture, at least one pixel a side."""
        width, height = (max(1, int(side * self.scale)) for side in size)
        return cv2.resize(image, (width, height), interpolation=_INTERPOLATIONS[self.interpolation])


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white noise.

    Attributes:
        sigma: levels of 255.
        grey: one noise field for all channels.
    """

    sigma: float
    grey: bool

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The noisy picture, in [0, 1]."""
        shape = (*image.shape[:2], 1) if self.grey else image.shape
        noisy = image + draw.standard_normal(shape, dtype=np.float32) * np.float32(self.sigma / 255)
        return np.clip(noisy, 0, 1, out=noisy)


@dataclass(frozen=True)
class PoissonNoise:
    """Shot noise.

    The photon count of white is the number of different 8-bit levels in the picture, rounded up to a power of two
    (Real-ESRGAN's convention).

    Attributes:
        scale: factor on the deviation from the clean picture.
        grey: one noise field, that of the picture's luma, for all channels.
    """

    scale: float
    grey: bool

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The noisy picture, in [0, 1]."""
        levels = to_levels(image @ _GREY_WEIGHTS[:, None] if self.grey else image)
        used = np.count_nonzero(np.bincount(levels.ravel()))
        photons = 2.0 ** np.ceil(np.log2(used))
        expected = np.arange(256) / 255 * photons
        noise = np.empty(levels.shape, np.float32)
        for channel in range(levels.shape[2]):
            counts = expected[levels[..., channel]]
            noise[..., channel] = (draw.poisson(counts) - counts) * (self.scale / photons)
        noisy = image + noise
        return np.clip(noisy, 0, 1, out=noisy)


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression and decompression with 4:2:0 chroma.

    Attributes:
        quality: libjpeg's, 1 to 100.
    """

    quality: int

    def apply(self, image: np.ndarray, size: Size, draw: np.random.Generator) -> np.ndarray:
        """The picture with compression artefacts, in [0, 1]."""
        bgr = np.ascontiguousarray(to_levels(image)[..., ::-1])
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
        return decoded[..., ::-1].astype(np.float32) / 255


Operation = Blur | Sinc | Resize | GaussianNoise | PoissonNoise | Jpeg


def to_levels(image: np.ndarray) -> np.ndarray:
    """[0, 1] to rounded uint8, clipped."""
    levels = image * np.float32(255)
    return np.clip(np.rint(levels, out=levels), 0, 255, out=levels).astype(np.uint8)
