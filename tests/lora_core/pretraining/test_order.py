"""The endless order: a bijection a epoch for any size, local in shards, and looking random."""

import numpy as np
import pytest

from lora_core.pretraining.data.order import BLOCK, WINDOW, permuted, shuffled


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1023, 1024, 1025, 16 * 1024, 16 * 1024 + 1, 20_000, 40_001])
def test_every_epoch_visits_each_record_once(size: int) -> None:
    for epoch in (0, 3):
        visited = [shuffled(epoch * size + place, size, "test", 1) for place in range(size)]
        assert sorted(visited) == list(range(size))


@pytest.mark.parametrize("size", range(1, 80))
def test_every_ragged_size_with_small_blocks_is_a_bijection(size: int) -> None:
    for epoch in range(4):
        visited = [shuffled(epoch * size + place, size, "ragged", block=2) for place in range(size)]
        assert sorted(visited) == list(range(size))


def test_neighbours_come_from_few_blocks() -> None:
    size = 40 * BLOCK + 77
    blocks = [shuffled(place, size, "local") // BLOCK for place in range(size)]

    def windows(with_rest: int) -> list[set[int]]:
        lengths = [length * BLOCK + 77 * (number == with_rest) for number, length in enumerate((WINDOW, WINDOW, 8))]
        stops = np.cumsum(lengths)
        return [set(blocks[stop - length : stop]) for length, stop in zip(lengths, stops, strict=True)]

    fitting = [
        sets for sets in map(windows, range(3)) if [len(touched - {40}) for touched in sets] == [WINDOW, WINDOW, 8]
    ]
    assert len(fitting) == 1
    assert sum(40 in touched for touched in fitting[0]) == 1
    assert sorted(fitting[0][0]) != list(range(len(fitting[0][0])))


def test_epochs_and_streams_differ_and_repeat() -> None:
    def order(epoch: int, *stream: int | str) -> list[int]:
        return [shuffled(epoch * 500 + place, 500, *stream) for place in range(500)]

    assert order(0, "a", 1) == order(0, "a", 1)
    assert len({tuple(order(epoch, name, seed)) for epoch in (0, 1) for name in "ab" for seed in (1, 2)}) == 8


def test_each_record_is_as_likely_at_each_place() -> None:
    epochs, size = 4000, 7
    counts = np.zeros((size, size))
    for epoch in range(epochs):
        for place in range(size):
            counts[place, shuffled(epoch * size + place, size, "fair")] += 1
    expected = epochs / size
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 70  # 36 degrees of freedom: above with a probability of 0.0006
    order = [permuted(place, 5000, (1, 2, 3, 4, 5, 6)) for place in range(5000)]
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.06


def test_a_position_far_out_costs_no_memory() -> None:
    assert 0 <= shuffled(10**15, 10**10, "far") < 10**10
