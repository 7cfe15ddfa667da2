"""What is said aloud about scores, because a number alone would hide it."""

import logging
from collections.abc import Iterable
from typing import Any

from lora_core.metrics import PSNR_CAP

_log = logging.getLogger(__name__)


def warn_of_equal_pictures(rows: Iterable[dict[str, Any]]) -> None:
    """The cap on PSNR is a choice of ours and pulls a mean up."""
    if equal := sum(row["psnr_rgb"] >= PSNR_CAP for row in rows):
        _log.warning("pictures equal to their originals: %d; each counts as %g dB in the means", equal, PSNR_CAP)
