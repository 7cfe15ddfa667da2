"""The recipes: which operations with which ranges.

`light`, `medium`, `heavy` and `single` carry published numbers, `pocket` is calibrated here. All ranges are closed and
drawn uniformly, sigmas are pixels (noise: levels of 255). The photograph itself is the target of a restoration, so none
of the recipes sharpens it first as the papers do (USM would move the optimum away from the original).
"""

import math
from dataclasses import dataclass, replace

from lora_core.errors import ConfigError
from lora_core.experiment import DegradationName

Range = tuple[float, float]


@dataclass(frozen=True)
class KernelMix:
    """How a blur kernel is drawn.

    Attributes:
        sizes: odd kernel sizes, equally likely.
        sigma: of each axis; rotation is uniform in [-pi, pi].
        beta_generalised: exponent of generalised Gaussians, half of the time below 1 and half above.
        beta_plateau: likewise for plateau kernels.
        gaussian: probabilities of the isotropic and the anisotropic Gaussian.
        generalised: likewise, the generalised Gaussian.
        plateau: likewise, the plateau kernel.
        sinc: probability of a sinc kernel instead of the mix above.
    """

    sizes: tuple[int, ...]
    sigma: Range
    beta_generalised: Range = (0.5, 4)
    beta_plateau: Range = (1, 2)
    gaussian: tuple[float, float] = (0.45, 0.25)
    generalised: tuple[float, float] = (0.12, 0.03)
    plateau: tuple[float, float] = (0.12, 0.03)
    sinc: float = 0.1


@dataclass(frozen=True)
class Stage:
    """Blur, resize, noise, JPEG.

    Attributes:
        kernel: the blur.
        blur_probability: of blurring at all.
        resize: smallest and largest size, as a share of the photograph's size over the recipe's scale.
        resize_probabilities: of enlarging, shrinking and keeping.
        gaussian_sigma: of additive noise.
        poisson_scale: of shot noise, drawn when additive noise is not.
        jpeg_quality: both ends included.
        gaussian_probability: of additive noise.
        grey_probability: that all channels share their noise.
    """

    kernel: KernelMix
    blur_probability: float
    resize: Range
    resize_probabilities: tuple[float, float, float]
    gaussian_sigma: Range
    poisson_scale: Range
    jpeg_quality: tuple[int, int]
    gaussian_probability: float = 0.5
    grey_probability: float = 0.4


@dataclass(frozen=True)
class SecondOrder:
    """Real-ESRGAN's two stages and their end.

    Attributes:
        first: stage one, whose resize is relative to the photograph.
        second: stage two, whose JPEG comes before or after the final [resize, sinc], equally likely.
        scale: the low-resolution picture is so many times smaller; above 1 it is brought back bicubically.
        final_sinc_probability: of the final sinc kernel.
        final_sinc_sizes: its odd sizes, equally likely.
    """

    first: Stage
    second: Stage
    scale: int = 1
    final_sinc_probability: float = 0.8
    final_sinc_sizes: tuple[int, ...] = tuple(range(7, 22, 2))


@dataclass(frozen=True)
class SingleStage:
    """Gaussian blur, downsample, noise, JPEG, resize back: one degradation of each kind.

    Attributes:
        kernel_size: odd number of pixels.
        sigma: of each axis of the blur.
        isotropic_probability: that both axes have the same.
        downsample: factor between the photograph and the small picture.
        noise_sigma: of additive colour noise.
        jpeg_quality: both ends included.
    """

    kernel_size: int
    sigma: Range
    isotropic_probability: float
    downsample: Range
    noise_sigma: Range
    jpeg_quality: tuple[int, int]


Recipe = SecondOrder | SingleStage

# Real-ESRGAN, options/train_realesrgan_x4plus.yml, at scale 1 instead of 4: the output has the photograph's size.
MEDIUM = SecondOrder(
    first=Stage(
        kernel=KernelMix(sizes=tuple(range(7, 22, 2)), sigma=(0.2, 3)),
        blur_probability=1,
        resize=(0.15, 1.5),
        resize_probabilities=(0.2, 0.7, 0.1),
        gaussian_sigma=(1, 30),
        poisson_scale=(0.05, 3),
        jpeg_quality=(30, 95),
    ),
    second=Stage(
        kernel=KernelMix(sizes=tuple(range(7, 22, 2)), sigma=(0.2, 1.5)),
        blur_probability=0.8,
        resize=(0.3, 1.2),
        resize_probabilities=(0.3, 0.4, 0.3),
        gaussian_sigma=(1, 25),
        poisson_scale=(0.05, 2.5),
        jpeg_quality=(30, 95),
    ),
)

# OSEDiff, dataloaders/params_realesrgan.yml: exactly Real-ESRGAN's values at scale 4, resized back bicubically.
HEAVY = replace(MEDIUM, scale=4)

# StableSR, configs/stableSRNew/v2-finetune_text_T_512.yaml, at scale 1.
LIGHT = SecondOrder(
    first=Stage(
        kernel=KernelMix(
            sizes=tuple(range(7, 22, 2)), sigma=(0.2, 1.5), beta_generalised=(0.5, 2), beta_plateau=(1, 1.5)
        ),
        blur_probability=1,
        resize=(0.3, 1.5),
        resize_probabilities=(0.2, 0.7, 0.1),
        gaussian_sigma=(1, 15),
        poisson_scale=(0.05, 2),
        jpeg_quality=(60, 95),
    ),
    second=Stage(
        kernel=KernelMix(sizes=(7, 9, 11), sigma=(0.2, 1), beta_generalised=(0.5, 2), beta_plateau=(1, 1.5)),
        blur_probability=0.5,
        resize=(0.6, 1.2),
        resize_probabilities=(0.3, 0.4, 0.3),
        gaussian_sigma=(1, 12),
        poisson_scale=(0.05, 1),
        jpeg_quality=(60, 100),
    ),
)

# DiffBIR v1 (CodeFormer's order), configs/train/train_stage2.yaml.
SINGLE = SingleStage(
    kernel_size=41,
    sigma=(0.1, 12),
    isotropic_probability=0.5,
    downsample=(1, 12),
    noise_sigma=(0, 15),
    jpeg_quality=(30, 100),
)

# Ours, for photographs of 256 pixels and the pocket base; tests/benchmarks/degradation.py prints what it does.
POCKET = SingleStage(
    kernel_size=13,
    sigma=(0.7, 2.0),
    isotropic_probability=0.5,
    downsample=(1.5, 3),
    noise_sigma=(1, 8),
    jpeg_quality=(50, 90),
)

RECIPES: dict[DegradationName, Recipe] = {
    "light": LIGHT,
    "medium": MEDIUM,
    "heavy": HEAVY,
    "single": SINGLE,
    "pocket": POCKET,
}


def recipe_of(preset: DegradationName) -> Recipe:
    """The ranges of a preset.

    Raises:
        ConfigError: the preset is `own`: the user brings the degraded photographs.
    """
    if preset not in RECIPES:
        raise ConfigError(
            f"degradation.preset: '{preset}' is no recipe, its degraded photographs are brought by the user; "
            f"to have them made, choose {', '.join(RECIPES)}"
        )
    return RECIPES[preset]


def sinc_cutoff(kernel_size: int) -> Range:
    """Cut-off frequencies of a sinc kernel in a stage, radians a pixel (Real-ESRGAN's dataset code)."""
    return (math.pi / 3 if kernel_size < 13 else math.pi / 5, math.pi)
