"""Which checkpoints are deleted so that the rest fit the disk."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def to_delete(checkpoints: Sequence[Mapping[str, Any]], keep_gib: float) -> list[int]:
    """Epochs of the checkpoints to delete, oldest first, until the rest take at most `keep_gib`.

    The best (lowest loss, the earliest of equals) and the last stay, whatever they take.

    Args:
        checkpoints: {"epoch", "bytes", "loss"} each; a loss that is None or not finite is never the best.
        keep_gib: GiB.
    """
    if not checkpoints:
        return []
    in_order = sorted(checkpoints, key=lambda one: one["epoch"])
    kept = (min(in_order, key=_loss)["epoch"], in_order[-1]["epoch"])
    excess = sum(one["bytes"] for one in in_order) - keep_gib * 2**30
    deleted = []
    for one in in_order:
        if excess > 0 and one["epoch"] not in kept:
            deleted.append(one["epoch"])
            excess -= one["bytes"]
    return deleted


def _loss(checkpoint: Mapping[str, Any]) -> float:
    loss = checkpoint["loss"]
    return loss if loss is not None and math.isfinite(loss) else math.inf
