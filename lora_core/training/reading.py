"""A run's loss curve in words: how far it has come, where it goes, and whether more steps would help.

A loss has no scale of its own: it depends on the base, the objective, the weights and the timesteps. So nothing is
compared with fixed numbers; the measure is this run's own base, without LoRA, on the same validation grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_STAGES = (
    (0.0, "above the base's own: the LoRA does harm so far"),
    (0.02, "hardly below the base's own: the LoRA has not begun to learn"),
    (0.10, "somewhat below the base's own: it learns the first features"),
    (0.30, "clearly below the base's own: it has learned the main features"),
    (1.01, "far below the base's own: it predicts its targets closely"),
)
_FLAT = 0.005
"""A change of less than this share of the base's loss over the last third counts as level."""


@dataclass(frozen=True)
class Reading:
    """What the curve says.

    Attributes:
        stage: how the last validation stands to the base.
        trend: "falling", "level", "overfitting", "unstable" or "too short".
        best: epoch of the lowest validation.
        words: sentences for a person.
    """

    stage: str
    trend: str
    best: float
    words: tuple[str, ...]


def read_curve(validations: Sequence[dict[str, Any]], log: Sequence[dict[str, Any]]) -> Reading | None:
    """Reads a run.

    Args:
        validations: rows with "epoch" and "loss"; the first is the base's own.
        log: rows of the training log, with "loss".

    Returns:
        None where nothing was validated after the base.
    """
    if len(validations) < 2:
        return None
    base, curve = validations[0]["loss"], validations[1:]
    last = curve[-1]
    gain = 1 - last["loss"] / base if base else 0.0
    stage = next(words for limit, words in _STAGES if gain < limit)
    best = min(curve, key=lambda row: row["loss"])
    trend = _trend(base, curve, best, log)
    level = (
        f"Validation loss {last['loss']:.4g} at epoch {last['epoch']:g}, {_percent(gain)} "
        f"{'below' if gain >= 0 else 'above'} the base's {base:.4g}: {stage.split(': ', 1)[1]}."
    )
    return Reading(stage, trend, best["epoch"], (level, _advice(trend, base, curve, best)))


def _percent(gain: float) -> str:
    return f"{abs(gain):.1%}" if abs(gain) < 0.01 else f"{abs(gain):.0%}"


def _trend(base: float, curve: Sequence[dict[str, Any]], best: dict[str, Any], log: Sequence[dict[str, Any]]) -> str:
    if len(curve) < 3:
        return "too short"
    end = curve[-max(2, len(curve) // 3) :]
    slope = (end[-1]["loss"] - end[0]["loss"]) / base if base else 0.0
    risen = (curve[-1]["loss"] - best["loss"]) / base if base else 0.0
    if risen > _FLAT:
        return "overfitting" if _training_falls(log, best["epoch"]) else "unstable"
    return "falling" if slope < -_FLAT else "level"


def _training_falls(log: Sequence[dict[str, Any]], since: float) -> bool:
    """Whether the training loss is lower after an epoch than in as long a time before it."""
    after = [row["loss"] for row in log if row["epoch"] > since]
    before = [row["loss"] for row in log if row["epoch"] <= since][-max(1, len(after)) :]
    return bool(after and before) and sum(after) / len(after) < sum(before) / len(before)


def _advice(trend: str, base: float, curve: Sequence[dict[str, Any]], best: dict[str, Any]) -> str:
    risen = (curve[-1]["loss"] - best["loss"]) / base if base else 0.0
    since = f"Since epoch {best['epoch']:g} it has risen by {risen:.1%} of the base's loss"
    return {
        "too short": "Fewer than three validations: too short a curve to say whether more steps would help.",
        "falling": "It is still falling: more epochs should lower it further.",
        "level": "It has levelled off: more steps with these settings will hardly help; more photographs, a higher "
        "rank or another rate may.",
        "overfitting": f"{since} while the training loss falls: more steps overfit; take the checkpoint of that epoch, "
        "add photographs, or lower rank or rate.",
        "unstable": f"{since} and the training loss does not fall either: the learning rate is too high.",
    }[trend]
