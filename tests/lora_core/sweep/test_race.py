"""Who leaves a race, and who never does."""

from dataclasses import replace

import numpy as np
import pytest

from lora_core.sweep.race import Runner, judge
from lora_core.sweep.stages import price, stages

PHOTOS = np.random.default_rng(0).normal(size=24)  # how hard each photograph is: common to all settings


def field(*means: float, noise: float = 0.05, photos: int = 8) -> list[Runner]:
    """Settings of these means on common photographs, each with a denoising of its own that costs 1."""
    draws = np.random.default_rng(1).normal(size=(len(means), photos)) * noise
    return [Runner(f"cell-{row}", row, 1, list(mean + PHOTOS[:photos] + draws[row])) for row, mean in enumerate(means)]


@pytest.mark.parametrize(
    ("photos", "confidence", "ends"),
    [(24, 0.95, (5, 10, 20, 24)), (5, 0.95, (5,)), (6, 0.95, (5, 6)), (40, 0.99, (7, 14, 28, 40)), (3, 0.5, (2, 3))],
)
def test_a_race_begins_with_the_least_photographs_that_can_decide(photos, confidence, ends):
    assert stages(photos, confidence) == ends


def test_the_clearly_worse_leave_and_say_by_how_much_and_how_surely():
    runners = field(1.0, 0.0, 0.99, 0.2)
    gone = {one.id: one for one in judge(runners, 0.95, keep=1)}
    assert gone.keys() == {"cell-1", "cell-3"}
    one = gone["cell-1"]
    assert one.rival == "cell-0" and one.why == "worse"
    assert one.difference == pytest.approx(np.mean(runners[1].scores) - np.mean(runners[0].scores))
    assert one.p == pytest.approx(1 / 2**8)  # eight photographs that all agree


def test_those_that_cannot_be_told_apart_go_on_as_far_as_the_price_allows():
    runners = field(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, noise=0.3)
    assert judge(runners, 0.9999, keep=1) == []
    gone = judge(runners, 0.9999)
    ranked = sorted(runners, key=lambda one: -np.mean(one.scores))
    assert {one.why for one in gone} == {"outranked"}
    assert {one.id for one in gone} == {one.id for one in ranked[2:]}
    dear = [replace(one, evaluations=8 if one is ranked[0] else 1) for one in runners]
    # The leader stays whatever it costs; of 13 evaluations a third is 4, which it alone exceeds.
    assert {one.id for one in judge(dear, 0.9999)} == {one.id for one in ranked[1:]}


def test_settings_of_one_denoising_go_on_together():
    runners = [replace(one, walk=place // 3) for place, one in enumerate(field(*[1.0] * 9, noise=0.3))]
    gone = {one.id for one in judge(runners, 0.9999)}
    best = max(runners, key=lambda one: np.mean(one.scores))
    assert {one.id for one in runners} - gone == {one.id for one in runners if one.walk == best.walk}


def test_who_is_certainly_worse_takes_no_place_of_those_that_stay():
    near = 0.3 * PHOTOS[:8]
    scores = {"best": [2.0] * 8, "near": list(near - near.mean() + 1.9), "worse": [0.5] * 8, "last": [0.0] * 8}
    gone = judge([Runner(name, name, 1, row) for name, row in scores.items()], 0.95, keep=0.5)
    assert [one.id for one in gone] == ["worse", "last"] and {one.why for one in gone} == {"worse"}


def test_a_race_costs_a_third_at_most():
    """Whatever the scores are: 24 photographs, settings of one to four steps in equal shares."""
    runners = [replace(one, evaluations=1 + place % 4) for place, one in enumerate(field(*[1.0] * 400, photos=24))]
    total, cost, before = sum(one.evaluations for one in runners) * 24, 0, 0
    for end in stages(24, 0.95):
        cost, before = cost + sum(one.evaluations for one in runners) * (end - before), end
        gone = {one.id for one in judge([replace(one, scores=one.scores[:end]) for one in runners], 0.95)}
        runners = [one for one in runners if one.id not in gone]
    assert cost / total <= price(24, 0.95) <= 1 / 3
    assert price(5, 0.95) == 1


def test_equal_settings_and_a_single_one_never_drop_the_leader():
    same = [Runner(name, name, 1, [1.0, 2.0, 3.0]) for name in "abc"]
    assert [one.id for one in judge(same, 0.5)] == ["b", "c"]
    assert judge(same[:1], 0.95) == []


def test_who_breaks_a_constraint_leads_only_where_all_do():
    runners = field(1.0, 0.6, 0.0)
    bad = replace(runners[0], feasible=False)
    gone = judge([bad, *runners[1:]], 0.95, keep=1)
    assert [(one.id, one.rival) for one in gone] == [("cell-2", "cell-1")]  # better than the leader, it is not worse
    assert [one.id for one in judge([bad, *runners[1:]], 0.95)] == ["cell-0", "cell-2"]  # but has no place
    broken = [replace(one, feasible=False) for one in runners]
    assert {one.rival for one in judge(broken, 0.95)} == {"cell-0"}
