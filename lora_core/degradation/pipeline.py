"""From a clean photograph to its degraded twin: draw the operations, then apply them in order.

Sources: Real-ESRGAN (arXiv:2107.10833, realesrgan/models/realesrgan_model.py) for the second-order recipes, DiffBIR v1
(arXiv:2308.15070, dataset/codeformer.py) for the single-stage ones. Two things differ from the former's GPU code:
JPEG is libjpeg's, with an integer quality, where it has a differentiable imitation, and interpolation is OpenCV's.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from lora_core.degradation.operations import (
    Blur,
    GaussianNoise,
    Interpolation,
    Jpeg,
    Operation,
    PoissonNoise,
    Resize,
    Shape,
    Sinc,
    to_levels,
)
from lora_core.degradation.presets import (
    KernelMix,
    Range,
    Recipe,
    SecondOrder,
    SingleStage,
    Stage,
    recipe_of,
    sinc_cutoff,
)
from lora_core.experiment import DegradationName, DegradationSection
from lora_core.files import file_digest
from lora_core.images import read_rgb
from lora_core.randomness import numpy_generator

T = TypeVar("T")
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class Degraded:
    """A degraded photograph.

    Attributes:
        rgb: (height, width, 3) uint8, the size of the photograph.
        parameters: {"operations": [...]}, every operation in order of application with all that was drawn for it.
    """

    rgb: np.ndarray
    parameters: dict[str, Any]


def degrade(rgb: np.ndarray, preset: DegradationName, image_digest: str, seed: int, variant: int = 0) -> Degraded:
    """Degrades one photograph; a pure function, the same on every call.

    Args:
        rgb: (height, width, 3) uint8 sRGB.
        preset: name of the recipe.
        image_digest: digest of the photograph's file, so that different photographs are degraded differently.
        seed: seed of the data set.
        variant: number of an independent degradation of the same photograph.

    Raises:
        ConfigError: the preset is `own`.
    """
    position = ("degradation", preset, image_digest, seed, variant)
    operations = draw_operations(recipe_of(preset), numpy_generator(*position, "parameters"))
    image = rgb.astype(np.float32) / 255
    for number, operation in enumerate(operations):
        image = operation.apply(image, (rgb.shape[1], rgb.shape[0]), numpy_generator(*position, "noise", number))
    parameters = [{"operation": type(operation).__name__, **asdict(operation)} for operation in operations]
    return Degraded(to_levels(image), {"operations": parameters})


def degraded_variant(path: Path, section: DegradationSection, variant: int) -> np.ndarray:
    """Degrades a file as the data set does; variant 0 is the degraded twin before it is encoded.

    Returns:
        (height, width, 3) uint8 sRGB.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the preset is `own`.
    """
    return degrade(read_rgb(path), section.preset, file_digest(path), section.seed, variant).rgb


def draw_operations(recipe: Recipe, draw: np.random.Generator) -> list[Operation]:
    """Every parameter of one degradation, in order of application; independent of the photograph."""
    return _second_order(recipe, draw) if isinstance(recipe, SecondOrder) else _single_stage(recipe, draw)


def _second_order(recipe: SecondOrder, draw: np.random.Generator) -> list[Operation]:
    first, second = recipe.first, recipe.second
    operations = [*_blur(first, draw), _resize(first, 1, draw), _noise(first, draw), _jpeg(first.jpeg_quality, draw)]
    operations += [*_blur(second, draw), _resize(second, recipe.scale, draw), _noise(second, draw)]
    # Other orders of the last three operations give twisted lines, as Real-ESRGAN's authors found.
    resize_and_sinc = [Resize(1 / recipe.scale, _one_of(INTERPOLATIONS, draw)), *_final_sinc(recipe, draw)]
    jpeg = _jpeg(second.jpeg_quality, draw)
    operations += [*resize_and_sinc, jpeg] if draw.random() < 0.5 else [jpeg, *resize_and_sinc]
    return operations if recipe.scale == 1 else [*operations, Resize(1, "bicubic")]


def _single_stage(recipe: SingleStage, draw: np.random.Generator) -> list[Operation]:
    isotropic = draw.random() < recipe.isotropic_probability
    return [
        _gaussian_family("gaussian", recipe.kernel_size, recipe.sigma, isotropic, 1, draw),
        Resize(1 / _uniform(recipe.downsample, draw), "bilinear"),
        GaussianNoise(_uniform(recipe.noise_sigma, draw), grey=False),
        _jpeg(recipe.jpeg_quality, draw),
        Resize(1, "bilinear"),
    ]


def _blur(stage: Stage, draw: np.random.Generator) -> list[Operation]:
    mix = stage.kernel
    size = _one_of(mix.sizes, draw)
    if draw.random() >= stage.blur_probability:
        return []
    if draw.random() < mix.sinc:
        return [Sinc(size, _uniform(sinc_cutoff(size), draw))]
    return [_mixed_kernel(mix, size, draw)]


def _mixed_kernel(mix: KernelMix, size: int, draw: np.random.Generator) -> Blur:
    probabilities = [*mix.gaussian, *mix.generalised, *mix.plateau]
    kind = int(draw.choice(len(probabilities), p=probabilities))
    shapes: tuple[Shape, ...] = ("gaussian", "generalised", "plateau")
    shape, isotropic = shapes[kind // 2], kind % 2 == 0
    beta = {"gaussian": 1.0, "generalised": _beta(mix.beta_generalised, draw), "plateau": _beta(mix.beta_plateau, draw)}
    return _gaussian_family(shape, size, mix.sigma, isotropic, beta[shape], draw)


def _gaussian_family(
    shape: Shape, size: int, sigma: Range, isotropic: bool, beta: float, draw: np.random.Generator
) -> Blur:
    sigma_x, sigma_y = _uniform(sigma, draw), _uniform(sigma, draw)
    rotation = _uniform((-math.pi, math.pi), draw)
    if isotropic:
        return Blur(shape, size, sigma_x, sigma_x, 0.0, beta)
    return Blur(shape, size, sigma_x, sigma_y, rotation, beta)


def _resize(stage: Stage, scale: int, draw: np.random.Generator) -> Resize:
    smallest, largest = stage.resize
    direction = draw.choice(3, p=stage.resize_probabilities)
    share = (_uniform((1, largest), draw), _uniform((smallest, 1), draw), 1.0)[direction]
    return Resize(share / scale, _one_of(INTERPOLATIONS, draw))


def _noise(stage: Stage, draw: np.random.Generator) -> Operation:
    gaussian = draw.random() < stage.gaussian_probability
    grey = draw.random() < stage.grey_probability
    if gaussian:
        return GaussianNoise(_uniform(stage.gaussian_sigma, draw), grey)
    return PoissonNoise(_uniform(stage.poisson_scale, draw), grey)


def _jpeg(quality: tuple[int, int], draw: np.random.Generator) -> Jpeg:
    return Jpeg(int(draw.integers(*quality, endpoint=True)))


def _final_sinc(recipe: SecondOrder, draw: np.random.Generator) -> list[Operation]:
    size, cutoff = _one_of(recipe.final_sinc_sizes, draw), _uniform((math.pi / 3, math.pi), draw)
    return [Sinc(size, cutoff)] if draw.random() < recipe.final_sinc_probability else []


def _beta(between: Range, draw: np.random.Generator) -> float:
    low, high = between
    return _uniform((low, 1), draw) if draw.random() < 0.5 else _uniform((1, high), draw)


def _uniform(between: Range, draw: np.random.Generator) -> float:
    return float(draw.uniform(*between))


def _one_of(values: tuple[T, ...], draw: np.random.Generator) -> T:
    return values[int(draw.integers(len(values)))]
