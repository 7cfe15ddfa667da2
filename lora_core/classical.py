"""Classical filters as baselines: what a restoration must beat to be worth a model.

The constants are fixed, so that every experiment is compared with the same filters. Each was chosen by the composite
(GMSD as perceptual distance) from a grid, on 256x256 centre crops of 20 BSDS500 photographs (val), on the degradation
that the filter is meant for; 20 others (train) put each first too, or within 0.01 points of it:

- sharpening on blur (Gaussian blur sigma 1.2, noise 4, JPEG 70; 26 dB): 36 settings, sigma 0.8 to 3, amount 0.25 to 2;
- denoising on noise (Gaussian blur sigma 0.6, noise 10, JPEG 80; 28 dB): 16 settings of non-local means, h 1 to 10,
  and 32 of the bilateral filter, colour sigma 5 to 60, spatial sigma 1 to 3.

On the blur the best denoiser is none at all, on the noise the best sharpening is none: with one degradation for all,
two of the three baselines would have been copies of their input.
"""

from collections.abc import Callable

import cv2
import numpy as np


def non_local_means(rgb: np.ndarray) -> np.ndarray:
    """Averages similar 7x7 patches within 21x21 (Buades et al. 2005), in Lab; h 2.5 for lightness and 3 for colour.

    Args:
        rgb: (h, w, 3) uint8 sRGB; so is the result, of every function here.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    filtered = cv2.fastNlMeansDenoisingColored(bgr, None, h=2.5, hColor=3, templateWindowSize=7, searchWindowSize=21)
    return cv2.cvtColor(filtered, cv2.COLOR_BGR2RGB)


def bilateral(rgb: np.ndarray) -> np.ndarray:
    """Averages near pixels of like colour (Tomasi and Manduchi 1998): colour sigma 20, spatial sigma 2 pixels."""
    return cv2.bilateralFilter(rgb, d=0, sigmaColor=20, sigmaSpace=2)


def unsharp_mask(rgb: np.ndarray) -> np.ndarray:
    """Adds 1.5 times the difference from a Gaussian blur of sigma 1.2 pixels."""
    picture = rgb.astype(np.float32)
    sharpened = picture + 1.5 * (picture - cv2.GaussianBlur(picture, (0, 0), 1.2))
    return np.rint(sharpened).clip(0, 255).astype(np.uint8)


CLASSICAL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "non-local means": non_local_means,
    "bilateral": bilateral,
    "unsharp mask": unsharp_mask,
}
"""The filters by the names that stand in the score table."""
