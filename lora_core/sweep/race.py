"""The race: settings that are clearly worse stop after a few photographs, the best of them see all.

Two rules, both on the composite of the same photographs, in the manner of racing (Maron & Moore 1994; Birattari et al.
2002, F-race) and of successive halving (Jamieson & Talwalkar 2016):

- *worse*: Wilcoxon's signed-rank test (1945), one-sided and paired by photograph, says that the leader of the moment is
  better at the wanted confidence.
- *outranked*: of what is left, only the best by mean go on, so that the whole race has a price that is known before.

The bare base runs a race of its own: the report wants its best setting as well. Imports no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

GROWTH = 2
"""Each stage ends with so many times the photographs of the one before."""
KEEP = 1 / 3
"""Share of a stage's settings that may go on at most."""


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


def stages(photos: int, confidence: float) -> tuple[int, ...]:
    """After how many photographs settings may be dropped; the last number is all of them.

    The first is the least with which the test can reach the confidence at all: n photographs that agree have
    p = 1 / 2^n. A test set that is not larger runs no race: (photos,).
    """
    first = math.floor(math.log2(1 / (1 - confidence))) + 1
    ends = []
    while first < photos:
        ends.append(first)
        first *= GROWTH
    return (*ends, photos)


def judge(scores: Mapping[str, Sequence[float]], confidence: float, most: int | None = None) -> list[Dropped]:
    """Who leaves the race.

    Args:
        scores: composites by setting; of the same photographs in the same order, at least one setting.
        most: how many may stay; None: the share `KEEP`.

    Returns:
        In the order of `scores`; never the leader, which is the first of equals.
    """
    ids, table = list(scores), np.array(list(scores.values()))
    means = table.mean(axis=1)
    leader = int(means.argmax())
    ahead = table[leader] - table
    certain = _p_values(ahead)
    ranks = np.argsort(np.argsort(-means, kind="stable"), kind="stable")
    room = max(1, math.ceil(len(ids) * KEEP)) if most is None else most
    worse = (certain < 1 - confidence) & (np.arange(len(ids)) != leader)
    # Ranks among those that stay: who is certainly worse does not take a place.
    ranks -= np.array([int((worse & (ranks < rank)).sum()) for rank in ranks])
    return [
        Dropped(
            name, ids[leader], float(-ahead[row].mean()), float(certain[row]), "worse" if worse[row] else "outranked"
        )
        for row, name in enumerate(ids)
        if worse[row] or (ranks[row] >= room and row != leader)
    ]


def _p_values(ahead: np.ndarray) -> np.ndarray:
    """One-sided p of each row of differences, (settings, photographs); equal pictures have 1."""
    p = np.ones(len(ahead))
    differing = (ahead != 0).any(axis=1)
    if differing.any():
        p[differing] = stats.wilcoxon(ahead[differing], alternative="greater", axis=1).pvalue
    return p
