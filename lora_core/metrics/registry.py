"""The further columns of a table: every metric that can be asked for by name, each one object.

They see batches of pictures of one size. Those that need no weights run on the CPU; networks run on the GPU where
there is one, in float32 without TF32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lora_core.experiment import ScoringSection
from lora_core.metrics import appearance, structure
from lora_core.metrics.gradients import GMSD_CONVENTION, gmsd
from lora_core.metrics.no_reference import REFERENCE_FREE, ReferenceFree, open_reference_free

Pairwise = Callable[[np.ndarray, np.ndarray], float]
"""Of one restored (h, w, 3) uint8 picture and its original."""
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of (n, h, w, 3) uint8 restored pictures and their originals to (n,) float64."""


@dataclass(frozen=True)
class Opened:
    """A metric that is ready to measure, its weights read.

    Attributes:
        name: its column.
        convention: what exactly is computed, with which weights.
        measure: the function.
    """

    name: str
    convention: str
    measure: Measure


@dataclass(frozen=True)
class Metric:
    """A metric that can be asked for.

    Attributes:
        name: its column, and its name in `scoring.metrics`.
        label: what a person calls it.
        lower_is_better: else higher is; None where 1 or 0 is the aim and both sides are worse.
        needs_weights: whether a network's weights must be at hand.
        side: the smallest side of a picture that it can see, in pixels.
        check: raises ConfigError or ResourceError where what it needs is not here; imports no torch.
        open: makes it ready. Raises as `check`, and ConfigError where a file of weights holds something else.
    """

    name: str
    label: str
    lower_is_better: bool | None
    needs_weights: bool
    side: int
    check: Callable[[ScoringSection], None]
    open: Callable[[ScoringSection], Opened]


def _plain(
    name: str, label: str, lower_is_better: bool | None, side: int, convention: str, pairwise: Pairwise
) -> Metric:
    """A metric of two pictures that needs nothing else."""

    def measure(restored: np.ndarray, originals: np.ndarray) -> np.ndarray:
        return np.array([pairwise(*pair) for pair in zip(restored, originals, strict=True)])

    opened = Opened(name, convention, measure)
    return Metric(name, label, lower_is_better, False, side, lambda _: None, lambda _: opened)


def _lpips(net: str, label: str, side: int) -> Metric:
    """LPIPS on one backbone."""
    name = f"lpips_{net}"

    def check(section: ScoringSection) -> None:
        from lora_core.perceptual.columns import lpips_weights

        lpips_weights(net, section)

    def opened(section: ScoringSection) -> Opened:
        from lora_core.perceptual.columns import open_lpips

        return Opened(name, *open_lpips(net, section))

    return Metric(name, label, True, True, side, check, opened)


def _dists() -> Metric:
    def check(section: ScoringSection) -> None:
        from lora_core.perceptual.columns import dists_weights

        dists_weights(section)

    def opened(section: ScoringSection) -> Opened:
        from lora_core.perceptual.columns import open_dists

        return Opened("dists", *open_dists(section))

    return Metric("dists", "DISTS", True, True, 16, check, opened)


def _reference_free(kind: ReferenceFree) -> Metric:
    return Metric(
        kind.name,
        kind.label,
        kind.lower_is_better,
        True,
        kind.side,
        lambda _: kind.check(),
        lambda _: Opened(kind.name, *open_reference_free(kind)),
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _plain("ms_ssim", "MS-SSIM", False, structure.MS_SSIM_SIDE, structure.MS_SSIM_CONVENTION, structure.ms_ssim),
        _plain(
            "ssim_skimage", "SSIM (scikit-image)", False, structure.SKIMAGE_SIDE, structure.SKIMAGE_CONVENTION,
            structure.ssim_skimage,
        ),
        _plain("gmsd", "GMSD", True, 4, GMSD_CONVENTION, gmsd),
        _plain("ciede2000", "CIEDE2000", True, 1, appearance.CIEDE2000_CONVENTION, appearance.ciede2000),
        _lpips("alex", "LPIPS (AlexNet)", 31),
        _lpips("vgg", "LPIPS (VGG-16)", 16),
        _lpips("squeeze", "LPIPS (SqueezeNet)", 17),
        _dists(),
        *(_reference_free(kind) for kind in REFERENCE_FREE),
    )
}  # fmt: skip
"""What `scoring.metrics` chooses from, by name."""

DIAGNOSTICS: tuple[Metric, ...] = (
    _plain("colour_shift", "Colour shift", True, 1, appearance.COLOUR_SHIFT_CONVENTION, appearance.colour_shift),
    _plain("sharpness", "Sharpness", None, 1, appearance.SHARPNESS_CONVENTION, appearance.sharpness),
)
"""Computed in every round: what a person would say of the pictures."""


def require_metrics(section: ScoringSection) -> None:
    """Checks that every further column can be had, before anything expensive. Imports no torch.

    Raises:
        ConfigError: a named file of weights does not exist.
        ResourceError: weights or a package are not here.
    """
    for name in section.metrics:
        METRICS[name].check(section)
