import io
import json
import math
from collections import Counter
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lora_core.degradation import degrade
from lora_core.degradation.kernels import gaussian_kernel, generalised_kernel, plateau_kernel, sinc_kernel
from lora_core.degradation.operations import Blur, GaussianNoise, Jpeg, Operation, PoissonNoise, Resize, Sinc, to_levels
from lora_core.degradation.pipeline import draw_operations
from lora_core.degradation.presets import RECIPES
from lora_core.errors import ConfigError
from lora_core.images import list_photos, read_rgb
from lora_core.metrics import psnr_y
from lora_core.randomness import numpy_generator

DRAWS = 1500
# The published numbers, typed once more from the papers' configuration files (research/restoration.md, section 1).
REAL_ESRGAN = {
    "sizes": (range(7, 22, 2), range(7, 22, 2)),
    "sigma": ((0.2, 3), (0.2, 1.5)),
    "beta": {"generalised": (0.5, 4), "plateau": (1, 2)},
    "blur": (1, 0.8),
    "resize": ((0.15, 1.5), (0.3, 1.2)),
    "gaussian": ((1, 30), (1, 25)),
    "poisson": ((0.05, 3), (0.05, 2.5)),
    "jpeg": ((30, 95), (30, 95)),
}
STABLE_SR = {
    "sizes": (range(7, 22, 2), range(7, 12, 2)),
    "sigma": ((0.2, 1.5), (0.2, 1.0)),
    "beta": {"generalised": (0.5, 2), "plateau": (1, 1.5)},
    "blur": (1, 0.5),
    "resize": ((0.3, 1.5), (0.6, 1.2)),
    "gaussian": ((1, 15), (1, 12)),
    "poisson": ((0.05, 2), (0.05, 1)),
    "jpeg": ((60, 95), (60, 100)),
}
SECOND_ORDER = {"light": (STABLE_SR, 1), "medium": (REAL_ESRGAN, 1), "heavy": (REAL_ESRGAN, 4)}
RESIZE_DIRECTIONS = ({"up": 0.2, "down": 0.7, "keep": 0.1}, {"up": 0.3, "down": 0.4, "keep": 0.3})
KERNEL_MIX = {
    ("gaussian", True): 0.45,
    ("gaussian", False): 0.25,
    ("generalised", True): 0.12,
    ("generalised", False): 0.03,
    ("plateau", True): 0.12,
    ("plateau", False): 0.03,
}


def drawn(preset: str, count: int = DRAWS) -> list[list[Operation]]:
    return [draw_operations(RECIPES[preset], numpy_generator("test", preset, number)) for number in range(count)]


def assert_share(times: int, of: int, probability: float) -> None:
    """Within four standard deviations of the binomial."""
    slack = 4 * math.sqrt(of * probability * (1 - probability))
    assert abs(times - of * probability) <= slack, (times, of, probability)


def assert_fills(values: list[float], low: float, high: float) -> None:
    """All inside, and reaching the last twentieth at both ends."""
    margin = (high - low) / 20
    assert low <= min(values) <= low + margin and high - margin <= max(values) <= high


# Kernels


@pytest.mark.parametrize("size", [3, 7, 21, 41])
def test_every_kernel_sums_to_one_and_is_symmetric(size: int) -> None:
    for sigma in (0.1, 0.7, 3.0, 12.0):
        kernels = [
            gaussian_kernel(size, sigma, 2 * sigma, 0.7),
            generalised_kernel(size, sigma, sigma / 2, -2.0, 0.5),
            generalised_kernel(size, sigma, sigma, 0.0, 4.0),
            plateau_kernel(size, sigma, 2 * sigma, 3.0, 1.5),
            sinc_kernel(size, math.pi / 3),
        ]
        for kernel in kernels:
            assert kernel.shape == (size, size) and kernel.dtype == np.float32
            assert abs(float(kernel.sum(dtype=np.float64)) - 1) < 1e-5
            np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_isotropic_gaussian_is_opencvs() -> None:
    line = cv2.getGaussianKernel(15, 1.7)
    np.testing.assert_allclose(gaussian_kernel(15, 1.7, 1.7, 0.4), line @ line.T, atol=1e-7)


def test_anisotropic_gaussian_has_the_covariance_of_its_axes() -> None:
    angle = 0.6
    kernel = gaussian_kernel(41, 4.0, 1.5, angle).astype(np.float64)
    y, x = np.mgrid[-20:21, -20:21]
    covariance = [[(kernel * x * x).sum(), (kernel * x * y).sum()], [(kernel * x * y).sum(), (kernel * y * y).sum()]]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(covariance, turn @ np.diag([16, 2.25]) @ turn.T, rtol=1e-3)


def test_generalised_and_plateau_shapes_follow_their_exponent() -> None:
    np.testing.assert_array_equal(generalised_kernel(13, 2, 1, 0.3, 1.0), gaussian_kernel(13, 2, 1, 0.3))
    across = {beta: generalised_kernel(21, 4, 4, 0, beta)[10] for beta in (0.5, 1.0, 4.0)}
    assert across[4.0][12] / across[4.0][10] > 0.99, "a flat top"
    assert across[0.5][12] / across[0.5][10] < 0.8, "a sharp peak"
    assert across[0.5][0] > across[1.0][0] > across[4.0][0], "heavier tails"
    for beta in (1.0, 1.5, 2.0):
        plateau = plateau_kernel(21, 4, 4, 0, beta)[10]
        assert plateau[14] / plateau[10] == pytest.approx(0.5), "half height at one sigma, whatever the exponent"
        assert plateau[18] / plateau[10] == pytest.approx(1 / (1 + 4**beta)), "q = 4 at two sigma"


def test_sinc_passes_below_its_cutoff_and_stops_above() -> None:
    for cutoff in (math.pi / 3, math.pi / 2):
        kernel = sinc_kernel(21, cutoff)
        assert kernel.min() < 0, "it rings"
        response = np.abs(np.fft.fft2(kernel, (256, 256)))[0, :128]
        frequency = np.arange(128) * math.pi / 128
        assert np.all(np.abs(response[frequency < 0.7 * cutoff] - 1) < 0.15)
        assert np.all(response[frequency > 1.3 * cutoff] < 0.15)


# What is drawn


@pytest.mark.parametrize("preset", SECOND_ORDER)
def test_second_order_recipes_draw_what_was_published(preset: str) -> None:
    published, scale = SECOND_ORDER[preset]
    kinds, sincs, blurs = Counter(), Counter(), Counter()
    sigmas, betas = ([], []), {"generalised": [], "plateau": []}
    directions, shares, modes = (Counter(), Counter()), ([], []), Counter()
    noises: tuple[Counter, Counter] = (Counter(), Counter())
    strengths: dict[tuple[int, type], list[float]] = {
        (stage, kind): [] for stage in (0, 1) for kind in (GaussianNoise, PoissonNoise)
    }
    qualities, orders, final_sincs = ([], []), Counter(), 0
    for operations in drawn(preset):
        *stages, end = split_stages(operations)
        for stage, part in enumerate(stages):
            blur, resize, noise = part[0] if len(part) == 3 else None, part[-2], part[-1]
            blurs[stage] += blur is not None
            if isinstance(blur, Sinc):
                sincs[stage] += 1
                assert (math.pi / 3 if blur.kernel_size < 13 else math.pi / 5) <= blur.cutoff <= math.pi
            elif isinstance(blur, Blur):
                kinds[blur.shape, blur.sigma_x == blur.sigma_y] += 1
                sigmas[stage].extend((blur.sigma_x, blur.sigma_y))
                assert -math.pi <= blur.rotation <= math.pi
                betas.get(blur.shape, []).append(blur.beta)
            assert blur is None or blur.kernel_size in published["sizes"][stage]
            share = resize.scale * (scale if stage else 1)
            directions[stage]["up" if share > 1 else "down" if share < 1 else "keep"] += 1
            shares[stage].append(share)
            modes[resize.interpolation] += 1
            noises[stage][type(noise)] += 1
            noises[stage]["grey"] += noise.grey
            strengths[stage, type(noise)].append(noise.sigma if isinstance(noise, GaussianNoise) else noise.scale)
        qualities[0].append(operations[len(stages[0])].quality)
        final_sincs += check_end(end, scale, orders, qualities[1])

    for stage in (0, 1):
        assert_share(blurs[stage], DRAWS, published["blur"][stage])
        assert_share(sincs[stage], blurs[stage], 0.1)
        assert_fills(sigmas[stage], *published["sigma"][stage])
        assert_fills(shares[stage], *published["resize"][stage])
        for direction, probability in RESIZE_DIRECTIONS[stage].items():
            assert_share(directions[stage][direction], DRAWS, probability)
        assert_share(noises[stage][GaussianNoise], DRAWS, 0.5)
        assert_share(noises[stage]["grey"], DRAWS, 0.4)
        assert_fills(strengths[stage, GaussianNoise], *published["gaussian"][stage])
        assert_fills(strengths[stage, PoissonNoise], *published["poisson"][stage])
        assert_fills(qualities[stage], *published["jpeg"][stage])
    for kind, probability in KERNEL_MIX.items():
        assert_share(kinds[kind], kinds.total(), probability)
    for shape, between in published["beta"].items():
        assert_fills(betas[shape], *between)
        assert_share(sum(beta < 1 for beta in betas[shape]), len(betas[shape]), 0.5 if between[0] < 1 else 0)
    for count in modes.values():
        assert_share(count, modes.total(), 1 / 3)
    assert_share(orders["sinc first"], DRAWS, 0.5)
    assert_share(final_sincs, DRAWS, 0.8)


def split_stages(operations: list[Operation]) -> tuple[list[Operation], list[Operation], list[Operation]]:
    """[blur, resize, noise] of both stages and the end; the JPEG between the stages is left out."""
    jpeg = next(place for place, operation in enumerate(operations) if isinstance(operation, Jpeg))
    first, rest = operations[:jpeg], operations[jpeg + 1 :]
    end = next(place for place, operation in enumerate(rest) if isinstance(operation, GaussianNoise | PoissonNoise)) + 1
    return first, rest[:end], rest[end:]


def check_end(end: list[Operation], scale: int, orders: Counter, qualities: list[int]) -> bool:
    """The three closing operations in either order; whether there was a sinc."""
    if scale > 1:
        assert end.pop() == Resize(1, "bicubic"), "back to the photograph's size"
    jpeg_first = isinstance(end[0], Jpeg)
    orders["JPEG first" if jpeg_first else "sinc first"] += 1
    resize, *sinc = end[1:] if jpeg_first else end[:-1]
    assert isinstance(resize, Resize) and resize.scale == 1 / scale
    qualities.append((end[0] if jpeg_first else end[-1]).quality)
    for operation in sinc:
        assert operation.kernel_size in range(7, 22, 2) and math.pi / 3 <= operation.cutoff <= math.pi
    return bool(sinc)


@pytest.mark.parametrize(
    ("preset", "size", "sigma", "downsample", "noise", "jpeg"),
    [("single", 41, (0.1, 12), (1, 12), (0, 15), (30, 100)), ("pocket", 13, (0.7, 2), (1.5, 3), (1, 8), (50, 90))],
)
def test_single_stage_recipes_draw_what_they_say(
    preset: str,
    size: int,
    sigma: tuple[float, float],
    downsample: tuple[float, float],
    noise: tuple[float, float],
    jpeg: tuple[int, int],
) -> None:
    runs = drawn(preset)
    assert {tuple(map(type, operations)) for operations in runs} == {(Blur, Resize, GaussianNoise, Jpeg, Resize)}
    assert {(blur.shape, blur.kernel_size, blur.beta) for blur, *_ in runs} == {("gaussian", size, 1)}
    assert_share(sum(blur.sigma_x == blur.sigma_y for blur, *_ in runs), DRAWS, 0.5)
    assert_fills([blur.sigma_x for blur, *_ in runs] + [blur.sigma_y for blur, *_ in runs], *sigma)
    assert_fills([1 / operations[1].scale for operations in runs], *downsample)
    assert_fills([operations[2].sigma for operations in runs], *noise)
    assert_fills([operations[3].quality for operations in runs], *jpeg)
    assert {operations[4] for operations in runs} == {Resize(1, "bilinear")}


# What the operations do


def apply(operation: Operation, image: np.ndarray) -> np.ndarray:
    return operation.apply(image, (image.shape[1], image.shape[0]), numpy_generator("test", 0))


def test_blur_is_a_convolution_that_keeps_flat_areas_at_the_border() -> None:
    blur = Blur("plateau", 9, 2.0, 1.0, 0.5, 1.5)
    impulse = np.zeros((31, 31, 3), np.float32)
    impulse[15, 15] = 1
    np.testing.assert_allclose(apply(blur, impulse)[11:20, 11:20, 1], blur.kernel(), atol=1e-6)
    for operation in (blur, Sinc(21, 2.0)):
        np.testing.assert_allclose(apply(operation, np.full((9, 30, 3), 0.4, np.float32)), 0.4, atol=1e-5)


def test_noise_has_the_stated_deviation() -> None:
    image = np.full((200, 200, 3), 0.5, np.float32)
    colour, grey = apply(GaussianNoise(12.0, False), image) - image, apply(GaussianNoise(12.0, True), image) - image
    assert colour.std() * 255 == pytest.approx(12, rel=0.02) and abs(colour.mean()) < 0.002
    assert np.corrcoef(colour[..., 0].ravel(), colour[..., 1].ravel())[0, 1] < 0.02
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert apply(GaussianNoise(200.0, False), image).min() == 0

    ramp = np.repeat((np.arange(256) / 255).astype(np.float32)[None, :, None], 400, axis=0).repeat(3, axis=2)
    shot = (apply(PoissonNoise(2.0, False), ramp) - ramp)[:, 96:160]
    assert shot.std() == pytest.approx(2.0 * math.sqrt(0.5 / 256), rel=0.03), "256 levels, so 256 photons are white"
    grey = apply(PoissonNoise(2.0, True), ramp) - ramp
    np.testing.assert_allclose(grey[..., 0], grey[..., 1], atol=1e-6)


def test_jpeg_is_pillows_jpeg_with_half_the_chroma(photos: Path) -> None:
    rgb = read_rgb(photos / "astronaut.png")
    for quality in (30, 80):
        data = io.BytesIO()
        Image.fromarray(rgb).save(data, format="JPEG", quality=quality, subsampling="4:2:0")
        compressed = apply(Jpeg(quality), rgb.astype(np.float32) / 255) * 255
        assert np.abs(compressed - np.asarray(Image.open(data))).mean() < 0.1


# The whole


def test_degrade_is_a_pure_function_of_all_its_arguments(photos: Path) -> None:
    rgb = read_rgb(photos / "coffee.png")
    before = rgb.copy()
    reference = degrade(rgb, "medium", "digest", 1)
    again = degrade(rgb, "medium", "digest", 1, variant=0)
    np.testing.assert_array_equal(rgb, before)
    np.testing.assert_array_equal(reference.rgb, again.rgb)
    assert json.loads(json.dumps(reference.parameters)) == again.parameters
    others = [
        degrade(rgb, "medium", "other", 1),
        degrade(rgb, "medium", "digest", 2),
        degrade(rgb, "medium", "digest", 1, variant=1),
        degrade(rgb, "heavy", "digest", 1),
    ]
    pictures = [reference, *others]
    assert len({picture.rgb.tobytes() for picture in pictures}) == len(pictures)
    assert len({json.dumps(picture.parameters) for picture in pictures}) == len(pictures)


def test_the_parameters_replay_all_but_the_noise_field(photos: Path) -> None:
    """They name every operation in order, with all its fields; with the noise fields they give the same picture."""
    rgb = read_rgb(photos / "chelsea.png")
    degraded = degrade(rgb, "medium", "digest", 0)
    kinds = {kind.__name__: kind for kind in (Blur, Sinc, Resize, GaussianNoise, PoissonNoise, Jpeg)}
    image = rgb.astype(np.float32) / 255
    for number, entry in enumerate(json.loads(json.dumps(degraded.parameters))["operations"]):
        kind = kinds[entry.pop("operation")]
        assert set(entry) == {field.name for field in fields(kind)}
        draw = numpy_generator("degradation", "medium", "digest", 0, 0, "noise", number)
        image = kind(**entry).apply(image, (rgb.shape[1], rgb.shape[0]), draw)
    np.testing.assert_array_equal(to_levels(image), degraded.rgb)


@pytest.mark.parametrize("preset", RECIPES)
def test_the_size_is_kept_down_to_a_pixel(preset: str) -> None:
    for height, width in ((37, 61), (16, 16), (5, 300), (1, 1)):
        rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for seed in range(12):
            degraded = degrade(rgb, preset, "digest", seed).rgb
            assert degraded.shape == rgb.shape and degraded.dtype == np.uint8


def test_the_names_of_the_presets_keep_their_promise(photos: Path) -> None:
    def score(preset: str) -> float:
        pictures = [(path.stem, read_rgb(path)) for path in list_photos(photos)]
        pairs = [(rgb, degrade(rgb, preset, name, seed).rgb) for name, rgb in pictures for seed in (0, 1)]
        return float(np.mean([psnr_y(*pair) for pair in pairs]))

    light, medium, heavy = score("light"), score("medium"), score("heavy")
    assert light > medium + 1 and medium > heavy + 0.5


def test_own_is_no_recipe() -> None:
    with pytest.raises(ConfigError, match=r"degradation\.preset: 'own' is no recipe"):
        degrade(np.zeros((8, 8, 3), np.uint8), "own", "digest", 0)
