from typing import Any

from lora_core.pretraining.pruning import to_delete

GIB = 2**30


def checkpoints(*losses: float | None) -> list[dict[str, Any]]:
    return [{"epoch": 10 * (place + 1), "bytes": GIB, "loss": loss} for place, loss in enumerate(losses)]


def test_oldest_first_and_only_what_is_needed() -> None:
    four = checkpoints(0.9, 0.8, 0.5, 0.6)
    assert to_delete(four, 4) == []
    assert to_delete(four, 3.9) == [10]
    assert to_delete(list(reversed(four)), 2) == [10, 20]


def test_the_best_and_the_last_stay_whatever_they_take() -> None:
    assert to_delete(checkpoints(0.5, 0.8, 0.5, 0.6), 0.1) == [20, 30]
    assert to_delete(checkpoints(0.5), 0.1) == []
    assert to_delete([], 1) == []


def test_a_checkpoint_without_a_loss_is_never_the_best() -> None:
    assert to_delete(checkpoints(None, float("nan"), 0.8, None), 0.1) == [10, 20]
