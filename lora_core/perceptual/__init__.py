"""Perceptual distances by networks, and the one that the composite uses.

LPIPS where AlexNet's weights are at hand, else GMSD under its own name (`choice`); LPIPS on other backbones and DISTS
are further columns of a table (`lora_core.metrics.registry`). torch is imported only when a network is used.
"""

from lora_core.perceptual.choice import (
    DOWNLOAD_COMMAND,
    GMSD_NAME,
    LPIPS_NAME,
    Perceptual,
    choose_perceptual,
    download_lpips_weights,
    lpips_module,
    perceptual_meaning,
    require_lpips_weights,
)
from lora_core.perceptual.weights import FILES, download_weights, find_weights, hub_weights

__all__ = [
    "DOWNLOAD_COMMAND", "FILES", "GMSD_NAME", "LPIPS_NAME", "Perceptual", "choose_perceptual", "download_lpips_weights",
    "download_weights", "find_weights", "hub_weights", "lpips_module", "perceptual_meaning",
    "require_lpips_weights",
]  # fmt: skip
