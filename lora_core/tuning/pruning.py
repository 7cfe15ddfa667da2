"""When a round is hopeless at its first checkpoints, read off its validation loss; plain numbers, no torch, no Optuna.

The loss is judged as a share of the base's own on the same validation grid, the run's first validation:

- *no learning*: after `GRACE` checkpoints it was never below the base's, so the LoRA has done nothing but harm;
- *behind*: it has fallen by much less than the median of the earlier rounds had at the same number of images, the
  median rule (Golovin et al. 2017, Google Vizier, section 3.2.2) with a margin, for the loss says where a round goes
  and not how good its pictures are. Only rounds with the same validation grid and objective are compared.

A decision is a function of the validations alone, so a run that was killed and goes on decides the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.sections.sweep import TIMESTEPS_FROM

GRACE = 2
"""Checkpoints that a round has before it can be given up: a warm-up may raise the first loss."""

BEHIND = 0.25
"""A round that has brought the loss down by less than this share of what the median round had is clearly behind."""

RIVALS = 3
"""Comparable earlier rounds without which there is no median to speak of."""

Row = Mapping[str, Any]
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Pruner:
    """Judges the curve of one round.

    Attributes:
        rivals: curves of comparable earlier rounds, (images, loss as a share of the base's).
    """

    rivals: tuple[Curve, ...] = ()

    def __call__(self, validations: Sequence[Row], checkpoints: Sequence[int]) -> str | None:
        """Why the round is hopeless, in a sentence; None while there is hope.

        Args:
            validations: rows of "images" and "loss", the base's own first.
            checkpoints: images seen at each checkpoint so far.
        """
        at = {images: loss for images, loss in shares(validations)}
        seen = [images for images in checkpoints if images in at]
        if len(seen) < GRACE:
            return None
        last, best = seen[-1], min(share for images, share in at.items() if 0 < images <= seen[-1])
        if not math.isfinite(at[last]):
            return f"After {last:,} images the validation loss is no number any more."
        if best >= 1:
            return (
                f"After {last:,} images and {len(seen)} checkpoints the validation loss was never below the base's own "
                f"(it is {at[last]:.1%} of it): this LoRA does not learn."
            )
        others = [value for rival in self.rivals if (value := _best_until(rival, last)) is not None]
        if len(others) >= RIVALS and 1 - best < BEHIND * (1 - median(others)):
            return (
                f"After {last:,} images the validation loss came down to {best:.1%} of the base's own, where the "
                f"median of {len(others)} earlier rounds was {median(others):.1%}: it is clearly behind."
            )
        return None

    def as_json(self) -> dict[str, Any]:
        """For the training process."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Pruner":
        """What `as_json` gave."""
        return cls(tuple([(int(images), float(share)) for images, share in curve] for curve in values["rivals"]))


def shares(validations: Sequence[Row]) -> Curve:
    """(images, loss as a share of the base's own) of each validation, the base's left out."""
    if not validations or not validations[0]["loss"]:
        return []
    base = validations[0]["loss"]
    return [(row["images"], row["loss"] / base) for row in validations[1:]]


def validated_on(experiment: Experiment) -> str:
    """sha256 over what the scale of a validation loss depends on; losses of equal ones can be compared."""
    values = experiment.model_dump(mode="json")
    sweep = {key: values["sweep"][key] for key in TIMESTEPS_FROM}
    photos = {key: values["data"][key] for key in ("resolution", "prompt", "test_limit")}
    return value_digest(
        [values["seed"], values["base"], values["objective"], photos, sweep, values["monitoring"]["validation_photos"]]
    )


def pruner_for(experiment: Experiment, results: Sequence[Row]) -> Pruner:
    """The pruner of a round, given the `result.json` of the rounds before; those that were pruned are no measure."""
    grid = validated_on(experiment)
    comparable = (result for result in results if not result["pruned"] and result.get("validated_on") == grid)
    return Pruner(tuple(curve for result in comparable if (curve := shares(result["validations"]))))


def _best_until(curve: Curve, images: int) -> float | None:
    """The lowest share that a curve had when it had seen so many images; None where it was not that far yet."""
    if not curve or curve[-1][0] < images:
        return None
    return min((share for seen, share in curve if seen <= images), default=None)
