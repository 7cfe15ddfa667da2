"""The race: settings that are clearly worse stop after a few photographs, the best of them see all.

Two rules, both on the composite of the same photographs, in the manner of racing (Maron & Moore 1994; Birattari et al.
2002, F-race) and of successive halving (Jamieson & Talwalkar 2016):

- *worse*: Wilcoxon's signed-rank test (1945), one-sided and paired by photograph, says that the leader of the moment is
  better at the wanted confidence.
- *outranked*: of what is left, the best by mean go on whose denoiser evaluations are a third of those that ran, so
  that the price of a race is known before it starts. Settings that share their denoising (a detail return, a colour
  fix) go on together, for they cost nothing more.

The bare base runs a race of its own: the report wants its best setting as well. Imports no torch.
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from lora_core.scoring.statistics import p_values
from lora_core.sweep.stages import KEEP


@dataclass(frozen=True)
class Runner:
    """A setting in the race.

    Attributes:
        walk: what denoises it; settings of one walk share its pictures up to the decoder.
        evaluations: denoiser evaluations of the walk for one photograph.
        scores: composites of the photographs so far, the same for all runners.
        feasible: whether it meets the experiment's constraints so far; who does not ranks behind all who do.
    """

    id: str
    walk: Hashable
    evaluations: int
    scores: Sequence[float]
    feasible: bool = True


@dataclass(frozen=True)
class Dropped:
    """A setting that left the race.

    Attributes:
        rival: who led at that moment.
        difference: mean composite minus the rival's, in points.
        p: chance of such differences if the rival were no better.
        why: the rule that sent it out.
    """

    id: str
    rival: str
    difference: float
    p: float
    why: Literal["worse", "outranked"]


@dataclass(frozen=True)
class Stage:
    """What happened after so many photographs."""

    photos: int
    cells: int
    dropped: list[Dropped] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The stage as JSON."""
        return asdict(self)


def judge(runners: Sequence[Runner], confidence: float, keep: float = KEEP) -> list[Dropped]:
    """Who leaves the race.

    Args:
        runners: at least one.
        keep: share of their evaluations that may go on.

    Returns:
        In the order of the runners; never the leader, the first of equals.
    """
    table = np.array([one.scores for one in runners])
    means = table.mean(axis=1)
    ranked = np.lexsort((-means, [not one.feasible for one in runners]))
    leader = int(ranked[0])
    ahead = table[leader] - table
    p = p_values(ahead)
    worse = p < 1 - confidence
    walks = _affordable([runners[row] for row in ranked if not worse[row]], keep * sum(_prices(runners).values()))
    return [
        Dropped(
            one.id, runners[leader].id, float(-ahead[row].mean()), float(p[row]), "worse" if worse[row] else "outranked"
        )
        for row, one in enumerate(runners)
        if row != leader and (worse[row] or one.walk not in walks)
    ]


def _prices(runners: Sequence[Runner]) -> dict[Hashable, int]:
    return {one.walk: one.evaluations for one in runners}


def _affordable(ranked: Sequence[Runner], budget: float) -> set[Hashable]:
    """The walks of the best runners while their evaluations fit; the leader's always does."""
    walks: set[Hashable] = set()
    for one in ranked:
        budget -= one.evaluations if one.walk not in walks else 0
        if walks and budget < 0:
            break
        walks.add(one.walk)
    return walks
