"""The perceptual distance of the composite: LPIPS where its weights are at hand, else GMSD under its own name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_core.errors import ResourceError
from lora_core.experiment import ScoringSection
from lora_core.metrics import CONVENTIONS, gmsd
from lora_core.perceptual.lpips_network import KINDS, Lpips
from lora_core.perceptual.weights import ALEXNET, Weights, download_weights, find_weights, why_not_in_cache

if TYPE_CHECKING:
    import torch

GMSD_NAME = "GMSD"
LPIPS_NAME = KINDS["alex"].label
DOWNLOAD_COMMAND = ALEXNET.download_command


@dataclass(frozen=True)
class Perceptual:
    """A perceptual distance of two (h, w, 3) uint8 sRGB pictures of equal size; 0 is equal, lower is better.

    Attributes:
        name: stands beside every number.
        reason: why this metric; where LPIPS is missing, with the command that mends it.
        convention: what exactly is computed.
        distance: the function itself.
    """

    name: str
    reason: str
    convention: str
    distance: Callable[[np.ndarray, np.ndarray], float]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """The distance. Raises DataError where the sizes differ or are too small for the metric."""
        return self.distance(first, second)


def choose_perceptual(section: ScoringSection) -> Perceptual:
    """The metric that the experiment asks for.

    Raises:
        ConfigError: the named weights do not exist or are no AlexNet.
        ResourceError: LPIPS is asked for and its weights are not here.
    """
    found = _weights_or_reason(section)
    return _gmsd(found) if isinstance(found, str) else _lpips(found)


def require_perceptual(section: ScoringSection) -> None:
    """Raises as `choose_perceptual`, but for what is in the file; before anything expensive, without torch."""
    _weights_or_reason(section)


def perceptual_meaning(section: ScoringSection) -> tuple[str, str]:
    """Name and convention of what `choose_perceptual` returns; raises as `require_perceptual`, without torch."""
    found = _weights_or_reason(section)
    return (GMSD_NAME, CONVENTIONS["gmsd"]) if isinstance(found, str) else _lpips_meaning(found)


def _weights_or_reason(section: ScoringSection) -> Weights | str:
    """The weights of LPIPS, or why it is GMSD instead."""
    if section.perceptual == "gmsd":
        return "chosen by scoring.perceptual: gmsd"
    if section.lpips_weights is not None:
        return find_weights(ALEXNET, section.lpips_weights)
    missing = why_not_in_cache(ALEXNET)
    if missing is None:
        return Weights(ALEXNET, ALEXNET.path, ALEXNET.digest)
    way_out = f"run once: {DOWNLOAD_COMMAND}"
    if section.perceptual == "lpips":
        raise ResourceError(f"scoring.perceptual is lpips, but {missing}; {way_out} (or set scoring.perceptual=auto)")
    return f"GMSD instead of LPIPS: {missing}; {way_out}"


def lpips_module(section: ScoringSection) -> "torch.nn.Module":
    """LPIPS as a frozen module of two float32 batches (batch, 3, height, width) in [-1, 1], for a loss.

    Raises:
        ConfigError: the named weights do not exist or are no AlexNet.
        ResourceError: no weights are here.
    """
    return Lpips(KINDS["alex"], _weights_for_a_loss(section)).network


def require_lpips_weights(section: ScoringSection) -> Path:
    """The file of AlexNet's weights that a loss would use. Raises as `lpips_module`, but for what is in the file."""
    return _weights_for_a_loss(section).path


def download_lpips_weights(url: str | None = None) -> Path:
    """Puts torchvision's AlexNet into the torch hub cache. As `download_weights`."""
    return download_weights(ALEXNET, url)


def _weights_for_a_loss(section: ScoringSection) -> Weights:
    if section.lpips_weights is None and (missing := why_not_in_cache(ALEXNET)) is not None:
        raise ResourceError(
            f"objective.pixel_lpips: {missing}; run once: {DOWNLOAD_COMMAND} (or set objective.pixel_lpips=0)"
        )
    return find_weights(ALEXNET, section.lpips_weights)


def _gmsd(reason: str) -> Perceptual:
    return Perceptual(GMSD_NAME, reason, CONVENTIONS["gmsd"], gmsd)


def _lpips(weights: Weights) -> Perceptual:
    name, convention = _lpips_meaning(weights)
    reason = "torchvision's AlexNet weights are at hand"
    if not weights.published:
        reason = (
            f"scoring.lpips_weights names a file that is not torchvision's {ALEXNET.file}: "
            "these numbers cannot be compared with published LPIPS"
        )
    return Perceptual(name, reason, convention, Lpips(KINDS["alex"], weights).to_device())


def _lpips_meaning(weights: Weights) -> tuple[str, str]:
    """Name and convention, which tell own weights from the published ones."""
    kind = KINDS["alex"]
    if weights.published:
        return kind.label, kind.convention
    return (
        f"LPIPS (AlexNet v0.1, own weights {weights.digest})",
        f"{kind.convention}; AlexNet weights with sha256 {weights.digest}..., not the published ones",
    )
