"""Intervals and paired tests against SciPy and against what they promise."""

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lora_core.files import read_json, write_json, write_text
from lora_core.scoring import score_round
from lora_core.scoring.statistics import add_statistics, bootstrap_interval, p_above
from lora_core.workspace import StudyFolder, Workspace
from tests.lora_core.scoring.small_round import EXPERIMENT, PHOTOS

POINTS = np.random.default_rng(7).gamma(2.0, 0.8, 24) - 0.5


def test_interval_agrees_with_scipys_bootstrap() -> None:
    low, high = bootstrap_interval(POINTS.tolist(), 0)
    theirs = stats.bootstrap((POINTS,), np.mean, method="percentile", n_resamples=40_000, batch=4000)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)
    assert (low, high) == bootstrap_interval(POINTS.tolist(), 0) != bootstrap_interval(POINTS.tolist(), 1)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """400 samples of 30 normal values: 95 % of the intervals hold the mean, a percentile bootstrap a little fewer."""
    draw = np.random.default_rng(3)
    intervals = [bootstrap_interval(draw.normal(1.0, 2.0, 30).tolist(), 0) for _ in range(400)]
    covered = sum(low <= 1.0 <= high for low, high in intervals if low is not None and high is not None)
    assert 0.89 <= covered / 400 <= 0.98


def test_intervals_at_the_edge() -> None:
    assert bootstrap_interval([1.5], 0) == (None, None)
    assert bootstrap_interval([1.5, 1.5, 1.5], 0) == (1.5, 1.5)


def test_p_is_wilcoxons() -> None:
    assert p_above(POINTS.tolist()) == stats.wilcoxon(POINTS, alternative="greater").pvalue < 0.01
    assert p_above((-POINTS).tolist()) > 0.99
    assert p_above([1.0, 2.0, 3.0]) == pytest.approx(1 / 8)  # the smallest of 2^3 sign patterns
    assert p_above([0.0, 0.0]) == 1


def rows_of(points: dict[str, list[float]]) -> tuple[list[dict[str, object]], dict[str, list[dict[str, object]]]]:
    by_photo = {
        cell: [{"photo": f"p{at}", "composite": value} for at, value in enumerate(values)]
        for cell, values in points.items()
    }
    return [{"id": cell, "kind": "lora", "name": cell} for cell in points], by_photo


def test_rivals_are_met_photograph_by_photograph() -> None:
    """Far below the champion on average because of one photograph, above it on all others."""
    champion = {f"p{at}": 0.1 * at for at in range(12)}
    ahead = [value + 0.05 for value in champion.values()]
    rows, by_photo = rows_of({"ahead": ahead, "dropped": ahead[:6], "behind": [value - 0.1 for value in ahead]})
    add_statistics(rows, by_photo, champion, 0)  # type: ignore[arg-type]
    assert [row["p_champion"] for row in rows] == pytest.approx([1 / 2**12, 1 / 2**6, 1], abs=1e-6)
    add_statistics(rows, by_photo, None, 0)  # type: ignore[arg-type]
    assert [row["p_champion"] for row in rows] == [None] * 3
    assert all(row["composite_low"] < row["composite_high"] for row in rows)  # type: ignore[operator]


def enter(study: StudyFolder, number: int, result: dict[str, object]) -> None:
    path = study.ledger
    earlier = path.read_text() if path.exists() else ""
    line = {"round": number, "test_digest": "t", **{key: result[key] for key in ("winner", "input")}}
    write_text(path, earlier + json.dumps(line) + "\n")


def test_the_champion_is_the_best_earlier_round(workspace: Workspace, study: StudyFolder) -> None:
    """Round 1 has the same cells as round 0: its winner ties with the champion, all others lie behind."""
    first = score_round(workspace, EXPERIMENT, 0)
    assert pl.read_parquet(study.round(0).table)["p_champion"].null_count() == len(
        pl.read_parquet(study.round(0).table)
    )
    enter(study, 0, first)
    study.round(1).root.mkdir()
    study.round(1).sweep_done.write_bytes(study.round(0).sweep_done.read_bytes())
    second = score_round(workspace, EXPERIMENT, 1)
    p = dict(pl.read_parquet(study.round(1).table).select("id", "p_champion").rows())
    assert p[first["winner"]["id"]] == 1 and p["reference-input"] == 1
    assert p["reference-autoencoder"] == pytest.approx(1 / 2 ** len(PHOTOS))
    assert second["winner"]["p_champion"] == 1
    score_round(workspace, EXPERIMENT, 0)
    assert pl.read_parquet(study.round(0).table)["p_champion"].null_count() == len(p)  # never a later round


def test_a_champion_on_other_photographs_is_no_rival(workspace: Workspace, study: StudyFolder) -> None:
    first = score_round(workspace, EXPERIMENT, 0)
    enter(study, 0, first)
    study.round(1).root.mkdir()
    write_json(study.round(1).sweep_done, read_json(study.round(0).sweep_done) | {"test": ["astronaut", "cat"]})
    score_round(workspace, EXPERIMENT, 1)
    table = pl.read_parquet(study.round(1).table)
    assert table["p_champion"].null_count() == len(table)
