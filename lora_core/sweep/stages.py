"""When a race judges, and what it costs at most. Imports nothing heavy: the disk is estimated by it."""

import math

GROWTH = 2
"""Each stage ends with so many times the photographs of the one before."""
KEEP = 1 / 3
"""Share of a stage's denoiser evaluations that the next one may cost for each photograph."""


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


def price(photos: int, confidence: float) -> float:
    """The share of all denoiser evaluations that a race costs at most."""
    cost, before, share = 0.0, 0, 1.0
    for end in stages(photos, confidence):
        cost, before, share = cost + share * (end - before), end, share * KEEP
    return cost / photos
