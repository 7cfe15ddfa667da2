"""Metrics of a restored picture against its original, each in one stated convention.

The core ones (`CONVENTIONS`) are computed for every picture. The further columns of a table are objects of
`lora_core.metrics.registry`; they are opened by name and see a batch of pictures at a time.
"""

from lora_core.metrics.core import CONVENTIONS as _CORE
from lora_core.metrics.core import (
    PSNR_CAP,
    fidelity,
    luma,
    psnr_rgb,
    psnr_y,
    require_pair,
    ssim_rgb,
    ssim_y,
)
from lora_core.metrics.gradients import GMSD_CONVENTION, gmsd

__all__ = [
    "CONVENTIONS", "PSNR_CAP", "fidelity", "gmsd", "luma", "psnr_rgb", "psnr_y", "require_pair", "ssim_rgb", "ssim_y",
]  # fmt: skip

CONVENTIONS = {**_CORE, "gmsd": GMSD_CONVENTION}
"""What each core metric means, one line a metric; stored with every table."""
