"""The composite by hand, by photograph and in the mean; the front."""

import pytest

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection
from lora_core.scoring import composite, composites, pareto_front


@pytest.mark.parametrize(
    ("gains", "weights", "points"),
    [
        ((0.0, 0.0, 0.0), (1, 1, 1), 0.0),
        ((1.0, 0.04, 0.10), (3, 0.5, 2), 1.0),
        ((2.0, -0.04, 0.20), (1, 1, 1), 1.0),
        ((2.0, -0.04, 0.20), (0, 1, 3), 1.25),
    ],
)
def test_composite(gains: tuple[float, float, float], weights: tuple[float, float, float], points: float) -> None:
    section = ScoringSection(psnr_weight=weights[0], ssim_weight=weights[1], perceptual_weight=weights[2])
    assert composite(*gains, section) == pytest.approx(points, abs=1e-12)


def rows_of(cell: str, **scores: tuple[float, ...]) -> list[dict[str, float | str]]:
    """Rows of photographs p0, p1, ... from columns."""
    columns = [[(key, value) for value in values] for key, values in scores.items()]
    return [{"id": cell, "photo": f"p{at}", **dict(row)} for at, row in enumerate(zip(*columns, strict=True))]


def test_composites_by_photograph() -> None:
    """The second photograph's input is nearly perfect: as a share of its own distance the gain would be -900 %."""
    inputs = {
        row["photo"]: row for row in rows_of("input", psnr_y=(25.0, 40.0), ssim_y=(0.70, 0.99), perceptual=(0.30, 0.02))
    }
    rows = rows_of("cell", psnr_y=(27.0, 38.0), ssim_y=(0.78, 0.95), perceptual=(0.14, 0.20))
    section = ScoringSection(psnr_weight=1, ssim_weight=1, perceptual_weight=2)
    points = composites(rows, inputs, section)
    assert points == pytest.approx([(2 + 2 + 2 * 10) / 4, (-2 - 1 - 2 * 11.25) / 4], abs=1e-12)
    mean = composite(0.0, 0.02, (0.16 - 0.17) / 0.16, section)
    assert sum(points) / 2 == pytest.approx(mean, abs=1e-12)
    assert composites(rows[1:], inputs, section) == points[1:]
    assert composites(list(inputs.values()), inputs, section) == [0, 0]


def test_composites_that_cannot_be() -> None:
    inputs = {row["photo"]: row for row in rows_of("input", psnr_y=(25.0,), ssim_y=(0.7,), perceptual=(0.3,))}
    stranger = rows_of("cell", psnr_y=(25.0, 26.0), ssim_y=(0.7, 0.7), perceptual=(0.3, 0.3))
    with pytest.raises(DataError, match="cell: no score of the degraded input of p1"):
        composites(stranger, inputs, ScoringSection())
    inputs["p0"]["perceptual"] = 0.0
    with pytest.raises(DataError, match="nothing to restore"):
        composites(stranger[:1], inputs, ScoringSection())


def test_pareto_front() -> None:
    points = {"faithful": (30, 0.3), "natural": (27, 0.1), "between": (28, 0.2), "worse": (27, 0.2), "twin": (28, 0.2)}
    rows = [{"id": name, "psnr_y": psnr, "perceptual": distance} for name, (psnr, distance) in points.items()]
    assert pareto_front(rows) == ["faithful", "natural", "between", "twin"]
