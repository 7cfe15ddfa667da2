"""How sure a mean over few photographs is: intervals by resampling them, and paired tests against a rival."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from lora_core.randomness import numpy_generator
from lora_core.scoring.points import Row

RESAMPLES = 10_000
CONFIDENCE = 0.95
CONVENTIONS = {
    "composite_low": f"{CONFIDENCE:.0%} percentile bootstrap of the mean composite over the cell's photographs, "
    f"{RESAMPLES} resamples; the lower end",
    "composite_high": "as composite_low; the upper end",
    "p_input": "one-sided paired Wilcoxon signed-rank test over the photographs: the chance of composites so far above "
    "the degraded input's if there were no difference",
    "p_champion": "as p_input, against the winner of the best earlier round on the same photographs",
}


def add_statistics(
    rows: Sequence[Row], by_photo: Mapping[str, list[Row]], champion: Mapping[str, float] | None, seed: int
) -> None:
    """Adds `composite_low`, `composite_high`, `p_input` and `p_champion` to the rows of a table.

    Args:
        rows: as of `mean_rows`; changed in place.
        by_photo: the composites by cell and photograph.
        champion: the champion's composite by photograph, or None.
        seed: of the resampling.
    """
    for row in rows:
        points = {one["photo"]: one["composite"] for one in by_photo[row["id"]]}
        low, high = bootstrap_interval(list(points.values()), seed)
        is_input = row["kind"] == "reference" and row["name"] == "input"
        row |= {
            "composite_low": low,
            "composite_high": high,
            "p_input": None if is_input else p_above(list(points.values())),
            "p_champion": _against(points, champion),
        }


def bootstrap_interval(values: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    """Percentile interval of the mean; None where one value says nothing of its spread.

    Equal numbers of photographs are drawn alike, so that the intervals of two cells move together.
    """
    if len(values) < 2:
        return None, None
    means = np.asarray(values)[_draws(len(values), seed)].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def p_above(differences: Sequence[float]) -> float:
    """One-sided p of the paired Wilcoxon signed-rank test that the differences lie above 0; 1 where all are 0."""
    return float(p_values(np.asarray(differences)[None])[0])


def p_values(differences: np.ndarray) -> np.ndarray:
    """`p_above` of each row of (candidates, photographs)."""
    from scipy.stats import wilcoxon  # type: ignore[import-untyped]

    p = np.ones(len(differences))
    differing = (differences != 0).any(axis=1)
    if differing.any():
        p[differing] = wilcoxon(differences[differing], alternative="greater", axis=1).pvalue
    return p


def _against(points: Mapping[str, float], champion: Mapping[str, float] | None) -> float | None:
    if champion is None:
        return None
    return p_above([value - champion[photo] for photo, value in points.items()])


@lru_cache(maxsize=8)
def _draws(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count) positions of photographs."""
    return numpy_generator("bootstrap", seed, count).integers(0, count, (RESAMPLES, count))
