from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from skimage import data

from lora_core.errors import ConfigError, DataError
from lora_core.perceptual import hub_weights
from lora_core.pretraining.distances import (
    EXTRACTOR_NAME,
    FEATURES,
    WEIGHTS_FILE,
    Extractor,
    Unavailable,
    frechet_distance,
    kernel_distance,
    load_extractor,
)


def gaussian(seed: int, count: int, width: int = 8, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((count, width))


def test_fid_is_the_closed_form_of_two_gaussians() -> None:
    """Equal axes: |m1 - m2|² + d (s1 - s2)²; and in general the textbook's matrix root."""
    first, second = gaussian(0, 100_000), gaussian(1, 100_000, shift=0.5, scale=2.0)
    assert frechet_distance(first, second) == pytest.approx(8 * (0.5**2 + 1), rel=0.02)
    mixing = np.random.default_rng(2).standard_normal((8, 8))
    first, second = gaussian(0, 300) @ mixing, gaussian(1, 200, shift=0.3)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_fid_of_fewer_pictures_than_features_is_exact() -> None:
    few = gaussian(0, 5, 64)
    assert frechet_distance(few, few[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, few + 2.0) == pytest.approx(64 * 4, rel=1e-9)


def test_kid_is_unbiased_and_symmetric() -> None:
    draws = [kernel_distance(gaussian(2 * n, 40), gaussian(2 * n + 1, 40), subsets=1).mean for n in range(400)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error and min(draws) < 0
    first, second = gaussian(0, 60), gaussian(1, 60, shift=0.7)
    far = kernel_distance(first, second, size=60)
    assert far.mean == pytest.approx(kernel_distance(second, first, size=60).mean, rel=1e-9)
    assert far.mean > 30 * error and far.deviation == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bad", [np.ones((1, 8)), np.full((4, 8), np.nan), np.ones((4, 7)), np.ones(8)])
def test_features_that_cannot_be_compared_are_refused(bad: np.ndarray) -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(DataError, match="FID and KID"):
            distance(gaussian(0, 10), bad)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Inception's weights are looked for, in an empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    return hub_weights().with_name(WEIGHTS_FILE)


def test_without_weights_the_reason_and_the_remedy(hub: Path) -> None:
    missing = load_extractor()
    assert isinstance(missing, Unavailable)
    assert "not in the torch hub cache" in missing.reason
    assert str(hub) in missing.remedy and f"pytorch.org/models/{WEIGHTS_FILE}" in missing.remedy
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"half of it")
    damaged = load_extractor()
    assert isinstance(damaged, Unavailable) and "damaged" in damaged.reason
    with pytest.raises(ConfigError, match="is not torchvision's inception_v3"):
        load_extractor(hub)
    with pytest.raises(ConfigError, match="is no file"):
        load_extractor(hub.with_name("other.pth"))


def test_random_weights_never_pass_as_inceptions(hub: Path) -> None:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False)
    hub.parent.mkdir(parents=True)
    torch.save(network.state_dict(), hub)
    assert isinstance(load_extractor(), Unavailable)
    extractor = load_extractor(hub)
    assert isinstance(extractor, Extractor)
    assert extractor.name != EXTRACTOR_NAME and "own weights" in extractor.name
    photo = np.ascontiguousarray(data.astronaut()[:150, :200])
    features = extractor([photo, photo[:, ::-1], photo])
    assert features.shape == (3, FEATURES) and np.isfinite(features).all()
    np.testing.assert_allclose(features[0], features[2], rtol=1e-4, atol=1e-5)
    assert extractor([]).shape == (0, FEATURES)
