"""A curve is read by its own base: stage, trend and advice for curves of every kind."""

import pytest

from lora_core.training.reading import read_curve


def rows(base, *losses):
    return [{"epoch": float(epoch), "loss": loss} for epoch, loss in enumerate([base, *losses])]


@pytest.mark.parametrize("scale", [1.0, 0.001, 40.0])
@pytest.mark.parametrize(("losses", "log", "trend", "word"), [
    ([0.8, 0.6, 0.5, 0.4], [0.8, 0.6, 0.5, 0.4], "falling", "more epochs"),
    ([0.7, 0.6, 0.6, 0.6, 0.6, 0.6], [0.7, 0.6, 0.5, 0.5, 0.5, 0.5], "level", "hardly help"),
    ([0.7, 0.5, 0.6, 0.7, 0.8], [0.7, 0.5, 0.4, 0.3, 0.2], "overfitting", "more steps overfit"),
    ([0.7, 0.5, 0.8, 0.9, 1.4], [0.7, 0.5, 0.8, 0.9, 1.2], "unstable", "rate is too high"),
    ([0.9, 0.8], [0.9, 0.8], "too short", "Fewer than three"),
])  # fmt: skip
def test_trends_do_not_depend_on_the_scale_of_the_loss(scale, losses, log, trend, word):
    read = read_curve(rows(scale, *(scale * one for one in losses)), rows(scale, *(scale * one for one in log))[1:])
    assert read.trend == trend and word in read.words[1]


@pytest.mark.parametrize(("last", "word"), [
    (1.3, "does harm"), (0.99, "not begun"), (0.95, "first features"), (0.8, "main features"), (0.4, "closely"),
    (0.0, "closely"),
])  # fmt: skip
def test_the_stage_is_measured_by_the_base(last, word):
    read = read_curve(rows(2.0, 2.0 * last), [])
    assert word in read.words[0] and f"{abs(1 - last):.0%}" in read.words[0]


def test_the_best_epoch_is_named_and_no_validation_says_nothing():
    assert (
        read_curve(rows(1.0, 0.6, 0.4, 0.5, 0.6), [{"epoch": 1.0, "loss": 0.5}, {"epoch": 4.0, "loss": 0.1}]).best == 2
    )
    assert read_curve(rows(1.0), []) is None and read_curve([], []) is None
