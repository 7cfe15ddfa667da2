"""When the learning rate is halved and when training stops, from the validation losses alone.

There is no state beside the list of losses, so a resumed run decides exactly as one that was never killed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lora_core.pretraining.recipe import TrainingSection


@dataclass(frozen=True)
class Plateau:
    """What the validation losses so far ask for.

    Attributes:
        halvings: places in the list of losses after which the rate was halved.
        waited: validations since the last that counted as better.
        stop: nothing counted as better for `training.patience` validations.
        best: place of the lowest finite loss, the earliest of equals; None where there is none.
    """

    halvings: tuple[int, ...]
    waited: int
    stop: bool
    best: int | None

    @property
    def factor(self) -> float:
        """What the scheduled learning rate is multiplied by."""
        return float(0.5 ** len(self.halvings))


def plateau(losses: Sequence[float], section: TrainingSection) -> Plateau:
    """Reads the validation losses in order.

    A loss counts as better when it is below the last that counted by the share `min_improvement`, so many small falls
    count once they add up. A halving restarts its own count but not the patience, because a halved rate that does not
    help is no improvement. A loss that is not finite never counts.

    Args:
        losses: every validation loss of the run.
        section: `halve_after`, `patience` and `min_improvement` are read.
    """
    mark, waited, since_halving = math.inf, 0, 0
    halvings = []
    for place, loss in enumerate(losses):
        if math.isfinite(loss) and loss < mark * (1 - section.min_improvement):
            mark, waited, since_halving = loss, 0, 0
            continue
        waited, since_halving = waited + 1, since_halving + 1
        if since_halving == section.halve_after:
            halvings.append(place)
            since_halving = 0
    finite = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    best = min(finite, key=lambda place: losses[place], default=None)
    return Plateau(tuple(halvings), waited, waited >= section.patience, best)
