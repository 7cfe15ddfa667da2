"""The further columns against scikit-image, definitions written out in PyTorch, and sums done by hand."""

import math
import sys
import types
from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from skimage import color, data, metrics
from torch.nn import functional

from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.experiment import ScoringSection, parse_experiment
from lora_core.metrics import appearance, no_reference, structure
from lora_core.metrics.downloads import NAMES, download
from lora_core.metrics.registry import DIAGNOSTICS, METRICS, Metric, require_metrics
from lora_core.sections.scoring import MetricName

WEIGHT_FREE = [metric for metric in (*METRICS.values(), *DIAGNOSTICS) if not metric.needs_weights]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[40:215, 150:337])  # odd sides, 175 x 187


@pytest.fixture(scope="module")
def noisy(photo: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, photo.shape)
    return (cv2.GaussianBlur(photo, (0, 0), 0.8) + noise).round().clip(0, 255).astype(np.uint8)


def ms_ssim_by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Wang's formula with dense windows and pyiqa's padded halving."""
    axis = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(axis**2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2
    weights = torch.tensor([[299, 587, 114]], dtype=torch.float64)
    greys = (torch.from_numpy(picture).double() @ weights.T / 1000 for picture in (first, second))
    x, y = (torch.round(grey)[None, None, ..., 0] for grey in greys)
    powers = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    result = 1.0
    for scale, power in enumerate(powers):
        mean_x, mean_y = functional.conv2d(x, window), functional.conv2d(y, window)
        var_x, var_y = (functional.conv2d(z * z, window) - m * m for z, m in ((x, mean_x), (y, mean_y)))
        covariance = functional.conv2d(x * y, window) - mean_x * mean_y
        structure_map = ((2 * covariance + 58.5225) / (var_x + var_y + 58.5225)).clamp(min=0)
        luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        last = scale == len(powers) - 1
        result *= float((structure_map * luminance if last else structure_map).mean()) ** power
        odd = (x.shape[2] % 2, x.shape[3] % 2)
        x, y = (functional.avg_pool2d(z, 2, padding=odd) for z in (x, y))
    return result


def test_ms_ssim_equals_its_definition(photo: np.ndarray, noisy: np.ndarray) -> None:
    for height, width in ((175, 187), (176, 161), (174, 186)):
        pair = (np.resize(photo, (176, 187, 3))[:height, :width], np.resize(noisy, (176, 187, 3))[:height, :width])
        assert structure.ms_ssim(*pair) == pytest.approx(ms_ssim_by_definition(*pair), abs=1e-9)


def test_ms_ssim_needs_five_scales(photo: np.ndarray) -> None:
    assert structure.ms_ssim(photo[:161, :161], photo[:161, :161]) == pytest.approx(1, abs=1e-12)
    with pytest.raises(DataError, match="MS-SSIM needs pictures of at least 161x161 pixels, this one has 187x160"):
        structure.ms_ssim(photo[:160], photo[:160])


def test_scikit_images_own(photo: np.ndarray, noisy: np.ndarray) -> None:
    expected = metrics.structural_similarity(photo, noisy, channel_axis=-1)
    assert structure.ssim_skimage(photo, noisy) == pytest.approx(expected, abs=1e-12)


def test_ciede2000(photo: np.ndarray, noisy: np.ndarray) -> None:
    """Two patches of grey whose difference Lindbloom's calculator gives, and scikit-image on a photograph."""
    grey, lighter = (np.full((4, 5, 3), level, np.uint8) for level in (119, 120))
    expected = color.deltaE_ciede2000(color.rgb2lab(grey), color.rgb2lab(lighter))[0, 0]
    assert 0.3 < expected < 0.5
    assert appearance.ciede2000(grey, lighter) == pytest.approx(expected, abs=1e-4)
    whole = color.deltaE_ciede2000(color.rgb2lab(photo), color.rgb2lab(noisy)).mean()
    assert appearance.ciede2000(photo, noisy) == pytest.approx(whole, abs=1e-4)


def test_colour_shift_sees_a_tint_and_no_noise(photo: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0, 12, photo.shape)
    grainy = (photo + noise).round().clip(0, 255).astype(np.uint8)
    tinted = (photo * np.array([1.0, 1.0, 0.85])).round().astype(np.uint8)
    assert appearance.colour_shift(photo, photo) == 0
    assert appearance.colour_shift(grainy, photo) < 1 < 2 < appearance.colour_shift(tinted, photo)
    assert appearance.ciede2000(grainy, photo) > 3


def test_sharpness_is_the_ratio_of_gradient_energy(photo: np.ndarray) -> None:
    ramp = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    steeper = ramp * 2
    assert appearance.sharpness(steeper, ramp) == pytest.approx(4, rel=1e-3)
    soft = [appearance.sharpness(cv2.GaussianBlur(photo, (0, 0), sigma), photo) for sigma in (0.6, 1.2, 2.4)]
    assert 1 > soft[0] > soft[1] > soft[2] > 0
    flat = np.full_like(ramp, 90)
    assert appearance.sharpness(flat, flat) == 1
    assert math.isfinite(appearance.sharpness(ramp, flat))


@pytest.mark.parametrize("metric", WEIGHT_FREE, ids=lambda metric: metric.name)
def test_metrics_measure_batches_and_say_which_way_is_better(
    metric: Metric, photo: np.ndarray, noisy: np.ndarray
) -> None:
    opened = metric.open(ScoringSection())
    blurred = cv2.GaussianBlur(photo, (0, 0), 2.0)
    tinted = (blurred * np.array([1.0, 1.0, 0.9])).round().astype(np.uint8)
    values = opened.measure(np.stack([photo, noisy, tinted]), np.stack([photo] * 3))
    assert values.shape == (3,) and values.dtype == np.float64
    alone = opened.measure(noisy[None], photo[None])
    assert values[1] == alone[0]
    best = {True: 0.0, False: 1.0, None: 1.0}[metric.lower_is_better]
    assert values[0] == pytest.approx(best, abs=1e-9)
    assert all(abs(value - best) > 1e-3 for value in values[1:])
    assert opened.name == metric.name and len(opened.convention) > 20


def test_every_name_of_the_setting_is_a_metric() -> None:
    assert set(METRICS) == set(get_args(MetricName))
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize(
    ("metrics", "says"),
    [(["ms_sim"], r"metrics\.0: .*'ms_ssim'.*given: 'ms_sim'"), (["gmsd", "ciede2000", "gmsd"], "given twice")],
)
def test_wrong_names_are_refused(metrics: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_experiment({"scoring": {"metrics": metrics}}, "test")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "lpips_alex",
            r"AlexNet weights .* not in the torch hub cache.*--download-lpips.*scoring\.lpips_weights",
        ),
        ("lpips_vgg", r"VGG-16 weights .* not in .*--download-weights vgg16.*scoring\.vgg_weights"),
        ("lpips_squeeze", r"SqueezeNet 1\.1 weights .* not in .*--download-weights squeezenet"),
        ("dists", r"VGG-16 weights .* not in"),
    ],
)
def test_missing_weights_are_named_before_anything_runs(
    name: str, says: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    section = ScoringSection(metrics=(name,))  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match=says):
        require_metrics(section)
    with pytest.raises(ResourceError, match=says):
        METRICS[name].open(section)
    require_metrics(ScoringSection())


def test_pyiqa_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_reference, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=r"niqe needs pyiqa; install it with pip install 'photo-enhancer\[iqa\]'"):
        require_metrics(ScoringSection(metrics=("niqe",)))


def test_a_run_never_fetches_pyiqas_weights(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(no_reference, "find_spec", lambda name: object())
    for name in ("niqe", "musiq", "clipiqa", "maniqa"):
        with pytest.raises(ResourceError, match=rf"weights of {name} \(.* are not here.*--download-weights {name}"):
            METRICS[name].open(ScoringSection())


def test_pyiqas_numbers_pass_through(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray, noisy: np.ndarray) -> None:
    """pyiqa itself is no dependency of the tests; what it is given and what becomes of its answer is ours."""

    def create_metric(name: str, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        print("loading weights")  # as pyiqa does
        assert name == "musiq"

        def network(pixels: torch.Tensor) -> torch.Tensor:
            assert pixels.shape == (1, 3, 175, 187) and pixels.dtype == torch.float32
            return pixels[:, 0].amax().reshape(1, 1)  # red, in 0..1

        return network

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    monkeypatch.setattr(no_reference, "find_spec", lambda name: object())
    monkeypatch.setattr(no_reference.metadata, "version", lambda name: "9.9")
    monkeypatch.setattr(no_reference.ReferenceFree, "_missing", lambda self: [])
    opened = METRICS["musiq"].open(ScoringSection())
    dim = (photo * 0.5).astype(np.uint8)
    values = opened.measure(np.stack([photo, dim]), np.stack([noisy, noisy]))
    assert values.tolist() == pytest.approx([photo[..., 0].max() / 255, dim[..., 0].max() / 255])
    assert opened.convention.startswith("pyiqa 9.9, musiq:") and "higher is better" in opened.convention


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"alexnet", "vgg16", "squeezenet", "dists", "niqe", "musiq", "clipiqa", "maniqa"} == set(NAMES)
    with pytest.raises(ConfigError, match=r"no weights 'vgg'.*did you mean 'vgg16'.*there are alexnet, vgg16"):
        download("vgg")

    def create_metric(name: str, device: torch.device) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    monkeypatch.setattr(no_reference, "find_spec", lambda name: object())
    with pytest.raises(ResourceError, match="cannot load or fetch the weights of niqe: no route to host"):
        download("niqe")
