"""Who leaves a race, and who never does."""

import numpy as np
import pytest

from lora_core.sweep.race import judge, stages

PHOTOS = np.random.default_rng(0).normal(size=24)  # how hard each photograph is: common to all settings


def field(*means: float, noise: float = 0.05, photos: int = 8) -> dict[str, list[float]]:
    """Settings of these means on common photographs."""
    draws = np.random.default_rng(1).normal(size=(len(means), photos)) * noise
    return {f"cell-{row}": list(mean + PHOTOS[:photos] + draws[row]) for row, mean in enumerate(means)}


@pytest.mark.parametrize(
    ("photos", "confidence", "ends"),
    [(24, 0.95, (5, 10, 20, 24)), (5, 0.95, (5,)), (6, 0.95, (5, 6)), (40, 0.99, (7, 14, 28, 40)), (3, 0.5, (2, 3))],
)
def test_a_race_begins_with_the_least_photographs_that_can_decide(photos, confidence, ends):
    assert stages(photos, confidence) == ends


def test_the_clearly_worse_leave_and_say_by_how_much_and_how_surely():
    scores = field(1.0, 0.0, 0.99, 0.2)
    gone = {one.id: one for one in judge(scores, 0.95, most=4)}
    assert gone.keys() == {"cell-1", "cell-3"} and "cell-2" not in gone
    one = gone["cell-1"]
    assert one.rival == "cell-0" and one.why == "worse"
    assert one.difference == pytest.approx(np.mean(scores["cell-1"]) - np.mean(scores["cell-0"]))
    assert one.p == pytest.approx(1 / 2**8)  # eight photographs that all agree


def test_those_that_cannot_be_told_apart_go_on_as_far_as_there_is_room():
    scores = field(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, noise=0.3)
    assert judge(scores, 0.9999, most=6) == []
    gone = judge(scores, 0.9999, most=2)
    kept = scores.keys() - {one.id for one in gone}
    assert {one.why for one in gone} == {"outranked"}
    assert kept == set(sorted(scores, key=lambda cell: -np.mean(scores[cell]))[:2])


def test_who_is_certainly_worse_takes_no_place_of_those_that_stay():
    scores = {"best": [2.0] * 8, "near": list(2.0 + 0.3 * PHOTOS[:8]), "worse": [0.5] * 8, "last": [0.0] * 8}
    scores["near"] = list(np.array(scores["near"]) - np.mean(scores["near"]) + 1.9)
    gone = judge(scores, 0.95, most=2)
    assert [one.id for one in gone] == ["worse", "last"] and {one.why for one in gone} == {"worse"}


def test_equal_settings_and_a_single_one_never_drop_the_leader():
    same = {name: [1.0, 2.0, 3.0] for name in "abc"}
    assert [one.id for one in judge(same, 0.5, most=1)] == ["b", "c"]
    assert judge({"only": [1.0, 2.0]}, 0.95) == []
