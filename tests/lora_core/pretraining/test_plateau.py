import math

from lora_core.pretraining.plateau import plateau
from lora_core.pretraining.recipe import TrainingSection

SECTION = TrainingSection(patience=5, halve_after=2, min_improvement=0.01)


def test_a_falling_loss_asks_for_nothing() -> None:
    state = plateau([1.0, 0.9, 0.8], SECTION)
    assert (state.factor, state.waited, state.stop, state.best) == (1.0, 0, False, 2)
    assert plateau([], SECTION).best is None and not plateau([], SECTION).stop


def test_halvings_restart_their_count_but_not_the_patience() -> None:
    losses = [1.0, *[1.1] * 5]
    assert [plateau(losses[:count], SECTION).factor for count in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [plateau(losses[:count], SECTION).stop for count in range(7)] == [False] * 6 + [True]
    assert plateau(losses, SECTION).halvings == (2, 4)


def test_an_improvement_resets_both_and_keeps_the_halvings() -> None:
    state = plateau([1.0, 1.1, 1.1, 1.1, 0.5, 0.6], SECTION)
    assert (state.factor, state.waited, state.best) == (0.5, 1, 4)
    assert plateau([1.0, 1.1, 1.1, 1.1, 0.5, 0.6, 0.6], SECTION).factor == 0.25


def test_small_falls_count_once_they_add_up_and_the_best_is_the_lowest_whatever_counts() -> None:
    creeping = plateau([1.0, 0.996, 0.993, 0.985, 0.984], SECTION)
    assert (creeping.waited, creeping.best) == (1, 4)
    level = plateau([1.0, 0.999, 0.999], SECTION)
    assert (level.waited, level.best) == (2, 1)


def test_losses_that_are_not_finite_never_count() -> None:
    state = plateau([math.nan, 1.0, math.nan, -math.inf], SECTION)
    assert (state.waited, state.best, state.factor) == (2, 1, 0.5)
    assert plateau([math.nan], SECTION).best is None
