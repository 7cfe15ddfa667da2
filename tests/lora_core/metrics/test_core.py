"""The core metrics against scikit-image, SciPy and sums done by hand."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from scipy.ndimage import correlate
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lora_core import metrics
from lora_core.errors import DataError

Metric = Callable[[np.ndarray, np.ndarray], float]
ALL: tuple[Metric, ...] = (metrics.psnr_y, metrics.psnr_rgb, metrics.ssim_y, metrics.ssim_rgb, metrics.gmsd)
HIGHER_IS_BETTER = ALL[:4]
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[40:199, 150:337])  # odd sides, 159 x 187


@pytest.fixture(scope="module")
def noisy(photo: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 9, photo.shape)
    return (photo + noise).round().clip(0, 255).astype(np.uint8)


def blurred(photo: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(photo, (0, 0), sigma)


def test_luma_is_matlabs() -> None:
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(metrics.luma(corners), [[16, 235, 81.481, 144.553, 40.966]], atol=1e-10)


def test_psnr_by_hand() -> None:
    grey = np.full((16, 20, 3), 100, np.uint8)
    brighter = grey + 5  # an error of 5 in every sample, and of 5 * 219/255 in the luma
    assert metrics.psnr_rgb(grey, brighter) == pytest.approx(20 * math.log10(255 / 5), abs=1e-10)
    assert metrics.psnr_y(grey, brighter) == pytest.approx(20 * math.log10(255 / (5 * 219 / 255)), abs=1e-10)


def test_psnr_equals_scikit_image(photo: np.ndarray, noisy: np.ndarray) -> None:
    assert metrics.psnr_rgb(photo, noisy) == pytest.approx(peak_signal_noise_ratio(photo, noisy), abs=1e-10)
    expected = peak_signal_noise_ratio(metrics.luma(photo), metrics.luma(noisy), data_range=255)
    assert metrics.psnr_y(photo, noisy) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_ssim_equals_scikit_image(photo: np.ndarray, noisy: np.ndarray, sigma: float) -> None:
    for other in (noisy, blurred(noisy, sigma)):
        expected = structural_similarity(photo, other, channel_axis=-1, **WANG)
        assert metrics.ssim_rgb(photo, other) == pytest.approx(expected, abs=1e-10)
        rounded = structural_similarity(np.rint(metrics.luma(photo)), np.rint(metrics.luma(other)), **WANG)
        assert metrics.ssim_y(photo, other) == pytest.approx(rounded, abs=2e-3)


@pytest.mark.parametrize("shape", [(330, 512), (20, 5000), (900, 80)])
def test_ssim_of_pictures_in_several_bands_equals_scikit_image(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(4)
    clean = cv2.resize(draw.integers(0, 256, (9, 31, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
    other = (clean + draw.normal(0, 9, clean.shape)).round().clip(0, 255).astype(np.uint8)
    expected = structural_similarity(clean, other, channel_axis=-1, **WANG)
    assert metrics.ssim_rgb(clean, other) == pytest.approx(expected, abs=1e-10)


def test_ssim_y_clips_negative_structure(photo: np.ndarray) -> None:
    """A negative turns every structure round: the clipped map is 0 there, the plain one far below."""
    negative = 255 - photo
    plain = structural_similarity(np.rint(metrics.luma(photo)), np.rint(metrics.luma(negative)), **WANG)
    assert plain < -0.1
    assert 0 <= metrics.ssim_y(photo, negative) < 0.2


def gmsd_by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """The authors' MATLAB code in SciPy: conv2(..., 'same') pads zeros; std2 divides by n - 1."""
    maps = []
    for picture in (first, second):
        red, green, blue = (picture[..., channel].astype(float) for channel in range(3))
        grey = np.rint((299 * red + 587 * green + 114 * blue) / 1000)  # rgb2gray of uint8
        mean = correlate(grey, np.full((2, 2), 0.25), mode="constant", origin=-1)[::2, ::2]
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        across, down = (correlate(mean, kernel, mode="constant") for kernel in (prewitt, prewitt.T))
        maps.append(np.sqrt(across**2 + down**2))
    similarity = (2 * maps[0] * maps[1] + 170) / (maps[0] ** 2 + maps[1] ** 2 + 170)
    return float(np.sqrt(np.sum((similarity - similarity.mean()) ** 2) / (similarity.size - 1)))


def test_gmsd_equals_its_definition(photo: np.ndarray, noisy: np.ndarray) -> None:
    """On odd sides the authors average the last row with zeros; pyiqa, and so we, leave it out."""
    even = photo[:-1, :-1], noisy[:-1, :-1]
    assert metrics.gmsd(*even) == pytest.approx(gmsd_by_definition(*even), abs=1e-12)
    assert metrics.gmsd(photo, noisy) == metrics.gmsd(*even)
    smooth = even[0], blurred(photo, 1.5)[:-1, :-1]
    assert metrics.gmsd(*smooth) == pytest.approx(gmsd_by_definition(*smooth), abs=1e-12)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_identity_symmetry_and_order(metric: Metric, photo: np.ndarray) -> None:
    best = {metrics.psnr_y: 100.0, metrics.psnr_rgb: 100.0, metrics.gmsd: 0.0}.get(metric, 1.0)
    assert metric(photo, photo.copy()) == pytest.approx(best, abs=1e-12)
    values = [metric(photo, blurred(photo, sigma)) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert values == sorted(values, reverse=metric in HIGHER_IS_BETTER)
    assert len(set(values)) == 4
    assert metric(photo, blurred(photo, 1.0)) == pytest.approx(metric(blurred(photo, 1.0), photo), abs=1e-12)


def test_psnr_never_exceeds_its_cap() -> None:
    """One sample in millions differs by one level: without the cap above 100 dB, so better than equality."""
    black = np.zeros((1500, 2000, 3), np.uint8)
    touched = black.copy()
    touched[0, 0, 0] = 1
    assert metrics.psnr_rgb(black, touched) == metrics.psnr_rgb(black, black) == metrics.PSNR_CAP


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_bad_pairs(metric: Metric, photo: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"187x159 and 187x158"):
        metric(photo, photo[:-1])
    for wrong in (photo.astype(np.float32), photo[..., 0], np.dstack([photo, photo[..., :1]])):
        with pytest.raises(ValueError, match="uint8"):
            metric(wrong, wrong)


@pytest.mark.parametrize(("metric", "side"), [(metrics.ssim_y, 10), (metrics.ssim_rgb, 10), (metrics.gmsd, 3)])
def test_pictures_too_small_for_a_window(metric: Metric, side: int) -> None:
    picture = np.zeros((side, 40, 3), np.uint8)
    with pytest.raises(DataError, match=f"40x{side}"):
        metric(picture, picture)


def test_fidelity_is_the_four_at_once(photo: np.ndarray, noisy: np.ndarray) -> None:
    one_by_one = {metric.__name__: metric(photo, noisy) for metric in HIGHER_IS_BETTER}
    assert metrics.fidelity(photo, noisy) == pytest.approx(one_by_one, abs=1e-12)


def test_every_metric_states_its_convention() -> None:
    assert set(metrics.CONVENTIONS) == {metric.__name__ for metric in ALL}
