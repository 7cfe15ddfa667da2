"""Training curves made readable: fewer points, and a smoothed line through them."""

from collections.abc import Sequence

import numpy as np

from lora_core.report.charts import Series
from lora_core.report.data import RoundData

_POINTS = 240
_BANDWIDTH = 0.03
"""Standard deviation of the smoothing kernel as a share of the run."""


def loss_series(one: RoundData, best: bool) -> Series | None:
    """The training loss of a round; None where nothing was logged."""
    return _series(one, one.curve.loss, best, smoothed=True)


def rate_series(one: RoundData, best: bool) -> Series | None:
    """The learning rate of a round; None where nothing was logged."""
    return _series(one, one.curve.learning_rate, best, smoothed=False)


def validation_series(one: RoundData, best: bool) -> Series | None:
    """The validation loss of a round from the base's own on; None where nothing was validated after it."""
    rows = one.training.get("validations", [])
    if len(rows) < 2:
        return None
    images, losses = [row["images"] for row in rows], [row["loss"] for row in rows]
    return Series(_name(one), images, losses, losses, best)


def _series(one: RoundData, values: Sequence[float], best: bool, *, smoothed: bool) -> Series | None:
    if not values:
        return None
    images, raw = thinned(one.curve.images, values, _POINTS)
    smooth = smooth_line(images, raw, _BANDWIDTH) if smoothed else raw
    return Series(_name(one), images.tolist(), raw.tolist(), smooth.tolist(), best)


def _name(one: RoundData) -> str:
    return f"round {one.number}, stopped" if one.pruned else f"round {one.number}"


def thinned(at: Sequence[float], values: Sequence[float], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbouring rows, so that at most `points` remain; (points,) float64 each."""
    groups = min(points, len(values))
    return _group_means(at, groups), _group_means(values, groups)


def _group_means(values: Sequence[float], groups: int) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(np.asarray(values, np.float64), groups)])


def smooth_line(at: np.ndarray, values: np.ndarray, bandwidth: float) -> np.ndarray:
    """Gaussian kernel average (Nadaraya–Watson); unlike a running mean it does not lag.

    Args:
        at, values: (points,) float64.
        bandwidth: standard deviation as a share of the range of `at`.
    """
    width = max((at[-1] - at[0]) * bandwidth, 1e-9)
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / width) ** 2)
    return weights @ values / weights.sum(axis=1)
