"""The classical filters do what their names say, each on the degradation that it is meant for."""

import cv2
import numpy as np
import pytest
from skimage import data

from lora_core.classical import CLASSICAL
from lora_core.metrics import psnr_y

PHOTO = np.ascontiguousarray(data.astronaut()[20:180, 130:321])
BLURRED = cv2.GaussianBlur(PHOTO, (0, 0), 1.2)
NOISY = (PHOTO + np.random.default_rng(1).normal(0, 10, PHOTO.shape)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "degraded", "gain"),
    [("non-local means", NOISY, 0.2), ("bilateral", NOISY, 1.0), ("unsharp mask", BLURRED, 1.0)],
)
def test_better_than_its_input(name: str, degraded: np.ndarray, gain: float) -> None:
    before = degraded.copy()
    restored = CLASSICAL[name](degraded)
    assert psnr_y(restored, PHOTO) > psnr_y(degraded, PHOTO) + gain
    np.testing.assert_array_equal(degraded, before)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_flat_picture_keeps_its_colour(name: str) -> None:
    """Channels that are swapped on the way, or an offset, would show here."""
    flat = np.full((40, 50, 3), (200, 90, 30), np.uint8)
    restored = CLASSICAL[name](flat)
    assert restored.shape == flat.shape and restored.dtype == np.uint8
    assert np.abs(restored.astype(int) - flat).max() <= 2  # the way through 8-bit Lab rounds


@pytest.mark.parametrize("name", CLASSICAL)
def test_extremes_neither_wrap_nor_depend_on_memory_layout(name: str) -> None:
    edge = np.zeros((40, 50, 3), np.uint8)
    edge[:, 25:] = 255
    restored = CLASSICAL[name](edge)
    assert restored[:, :20].max() <= 2 and restored[:, 30:].min() >= 253
    np.testing.assert_array_equal(CLASSICAL[name](np.asfortranarray(edge)), restored)
