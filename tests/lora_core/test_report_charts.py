"""The report's axes, labels, curves and numbers."""

import itertools

import numpy as np
import pytest

from lora_core.report.axes import linear_ticks, log_ticks, tick_labels
from lora_core.report.bars import Interval, intervals_chart, race_chart
from lora_core.report.curves import smooth_line, thinned
from lora_core.report.heat import HeatCell, HeatMap, heat_map
from lora_core.report.pictures import spread
from lora_core.report.svg import Box, place_labels, spread_apart
from lora_core.report.words import SPACE, chance, differing, plain, signed, telling_phrase


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-1.7, 4.2, ["−1", "0", "1", "2", "3", "4"]),
        (0.0301, 0.0349, ["0.031", "0.032", "0.033", "0.034"]),
        (0, 14400, ["0", "2,500", "5,000", "7,500", "10,000", "12,500"]),
    ],
)
def test_linear_ticks_are_round_numbers_inside_the_range(low: float, high: float, ticks: list[str]) -> None:
    assert tick_labels(linear_ticks(low, high, 5)) == ticks


def test_log_ticks_get_coarser_with_the_range() -> None:
    assert log_ticks(0.02, 0.21) == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert log_ticks(1e-5, 1e3) == pytest.approx([10.0**power for power in range(-5, 4)])


def test_labels_are_pushed_apart_but_stay_inside() -> None:
    placed = spread_apart([50, 52, 51, 99, 98], 12, 0, 100)
    assert np.diff(sorted(placed)).min() >= 12 and min(placed) >= 0 and max(placed) <= 100
    assert np.argsort(placed).tolist() == [0, 2, 1, 4, 3]
    bounds = Box(0, 0, 300, 200)
    labels = place_labels([(150.0 + step, 100.0, f"reference {step}") for step in range(6)], [], bounds)
    boxes = [label.box for label in labels]
    assert all(box.outside(bounds) == pytest.approx(0) for box in boxes)
    assert all(one.overlap(other) == 0 for one, other in itertools.combinations(boxes, 2))


def test_smoothing_keeps_lines_and_thinning_keeps_means() -> None:
    at = np.linspace(0, 1000, 200)
    line = 3.0 - 0.002 * at
    assert smooth_line(at, line, 0.01)[20:-20] == pytest.approx(line[20:-20])
    images, means = thinned(at, line, 50)
    assert len(images) == 50 and means.mean() == pytest.approx(line.mean())


@pytest.mark.parametrize(("count", "limit", "keep"), [(3, 12, 1), (12, 12, 5), (13, 12, 6), (100, 12, 49)])
def test_photographs_are_spread_from_best_over_median_to_worst(count: int, limit: int, keep: int) -> None:
    chosen = spread(count, limit, keep)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(count, limit)
    assert {0, keep, count - 1} <= set(chosen)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (signed(1.234, 2), "+1.23"),
        (signed(-0.004, 2), "0.00"),
        (signed(-2.5, 1), "−2.5"),
        (signed(float("nan"), 2), "–"),
        (plain(3e-05), "3e−5"),
        (plain(0.0003), "0.0003"),
        (plain((0.1, 0.2)), "0.1, 0.2"),
        (plain(True), "yes"),
        (chance(0.00312), f"p{SPACE}={SPACE}0.0031"),
        (chance(3e-5), f"p{SPACE}<{SPACE}0.0001"),
        (chance(0.999), f"p{SPACE}={SPACE}1"),
    ],
)
def test_numbers_as_a_person_reads_them(shown: str, text: str) -> None:
    assert shown == text


def test_heat_map_draws_what_was_dropped_as_dropped() -> None:
    cells = [[HeatCell(1.0, None, "a"), HeatCell(2.5, 6, "b")], [HeatCell(None, None, "c"), HeatCell(-0.5, None, "d")]]
    drawn = heat_map(HeatMap("checkpoint", "strength", ["1", "2"], ["0.1", "0.2"], cells, (0, 0), 1.0), 350.0)
    assert drawn.count('class="dropped"') == 1 and "out · 6" in drawn and "+2.50" not in drawn
    assert "+1.00" in drawn and "−0.50" in drawn and drawn.count('class="marked"') == 1
    assert "left the race after n photographs" in drawn and "points above the input" in drawn
    whole = heat_map(HeatMap("a", "b", ["1"], ["2"], [[HeatCell(1.0, None, "a")]], None, 1.0), 350.0)
    assert "left the race" not in whole


def test_names_stand_beside_the_bars_only_where_there_is_room() -> None:
    long = Interval("epoch 15, start noise 0.5, detail return 1", "winner", 1.0, 0.5, 1.5, "")
    heights = [
        float(intervals_chart([long, long], width).partition('height="')[2].partition('"')[0])
        for width in (1004.0, 350.0)
    ]
    assert heights[0] < heights[1]


def test_race_is_an_area_under_the_settings_that_are_left() -> None:
    drawn = race_chart([(5, 120), (10, 40), (24, 13)], 24, 1004.0)
    outline = drawn.partition('class="raced"')[0].rpartition('d="M')[2].rstrip('" ').split("L")
    corners = [tuple(map(float, corner.split(","))) for corner in outline]
    area = sum((x1 - x0) * y0 for (x0, y0), (x1, _) in itertools.pairwise(corners))
    (left, bottom), right, top = corners[0], corners[-1][0], corners[1][1]
    share = (bottom * (right - left) - area) / ((right - left) * (bottom - top))
    assert share == pytest.approx((5 * 120 + 5 * 40 + 14 * 13) / (24 * 120), abs=0.002)


def test_a_candidate_is_called_by_what_tells_it_from_the_others() -> None:
    usual = {
        "kind": "lora", "name": "epoch 1", "epoch": 1, "strength": 0.1, "start_noise": 0.0, "steps": 1,
        "detail_return": 1.0, "lora_scale": 1.0, "colour_fix": "none", "sampler": "ddim",
        "guidance_scale": 1.0, "seed": 0,
    }  # fmt: skip
    other = usual | {"strength": 0.2, "colour_fix": "adain"}
    varied = differing([usual, other])
    assert varied == ["strength", "colour_fix"]
    assert telling_phrase(other, varied) == "epoch 1, denoise strength 0.2, colour fix adain"
