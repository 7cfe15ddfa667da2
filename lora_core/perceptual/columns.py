"""LPIPS and DISTS as further columns: which weights they read, and what stands beside the numbers."""

from collections.abc import Callable

import numpy as np

from lora_core.experiment import ScoringSection
from lora_core.perceptual.dists_network import CONVENTION as DISTS_CONVENTION
from lora_core.perceptual.dists_network import Dists
from lora_core.perceptual.lpips_network import KINDS, Lpips
from lora_core.perceptual.weights import DISTS_HEADS, VGG16, Weights, find_weights

Batched = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of two (n, h, w, 3) uint8 batches to (n,) float64."""


def lpips_weights(net: str, section: ScoringSection) -> Weights:
    """The backbone of LPIPS on `net` (alex, vgg, squeeze). Raises as `find_weights`."""
    named = {"alex": section.lpips_weights, "vgg": section.vgg_weights, "squeeze": section.squeezenet_weights}
    return find_weights(KINDS[net].file, named[net])


def open_lpips(net: str, section: ScoringSection) -> tuple[str, Batched]:
    """The convention and the function of LPIPS on `net`.

    Raises:
        ConfigError: the named weights do not exist or are another network's.
        ResourceError: no weights are here.
    """
    weights = lpips_weights(net, section)
    network = Lpips(KINDS[net], weights).to_device()
    return _remarked(f"{KINDS[net].label}: {KINDS[net].convention}", weights), network.batch


def dists_weights(section: ScoringSection) -> tuple[Weights, Weights]:
    """The backbone and the heads of DISTS. Raises as `find_weights`."""
    return find_weights(VGG16, section.vgg_weights), find_weights(DISTS_HEADS, section.dists_weights)


def open_dists(section: ScoringSection) -> tuple[str, Batched]:
    """The convention and the function of DISTS. Raises as `open_lpips`."""
    backbone, heads = dists_weights(section)
    return _remarked(f"DISTS: {DISTS_CONVENTION}", backbone, heads), Dists(backbone, heads).batch


def _remarked(convention: str, *weights: Weights) -> str:
    """Other weights than the published ones are said wherever the numbers are."""
    remarks = [one.remark for one in weights if one.remark]
    return f"{convention}; {' and '.join(remarks)}: not comparable with published numbers" if remarks else convention
