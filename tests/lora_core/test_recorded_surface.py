"""On real trainings that were recorded the default search needs far fewer rounds than chance (tests/benchmarks)."""

from pathlib import Path

import pytest

from tests.benchmarks.tuning import SHARE, Surface, arrived, gains

SURFACE = Path(__file__).parents[1] / "benchmarks" / "surface.parquet"
LUCKY = 38
"""Rounds that the luckier quarter of random searches needs (tests/benchmarks/tuning.txt)."""


def test_the_surface_is_whole_and_has_a_best_region() -> None:
    surface = Surface.read(SURFACE)
    assert len(surface.points) >= 200
    good = [values for values, points in surface.points.items() if points - surface.base >= SHARE * surface.best]
    assert 1 <= len(good) <= 0.05 * len(surface.points) and surface.best > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_search_is_faster_than_lucky_chance(seed: int) -> None:
    surface = Surface.read(SURFACE)
    found = gains(surface, "gp", seed)
    assert arrived(found, SHARE * surface.best) < LUCKY
