"""Resizing is the best approximation, merging the exact sum; both held against dense matrices."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lora_core.errors import ConfigError
from lora_core.formats.algebra import merge, resize
from lora_core.formats.weights import LoraWeights
from tests.lora_core.formats.made_up import MIXED, SMALL, made_up, same


def dense(weights: LoraWeights, module: str) -> np.ndarray:
    return weights.delta(module).flatten(1).double().numpy()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_lower_rank_leaves_the_tail_of_the_singular_values(rank):
    weights = made_up(SMALL, ranks=(4, 12), alphas=MIXED, scale=1.0)  # 12 is more than any of these has dimensions
    resized = resize(weights, rank)
    lost, whole = 0.0, 0.0
    for module in weights.modules():
        values = np.linalg.svd(dense(weights, module), compute_uv=False)
        tail = np.linalg.norm(values[rank:])
        error = np.linalg.norm(dense(weights, module) - dense(resized.weights, module))
        assert error == pytest.approx(tail, rel=1e-4)
        assert resized.kept[module] == pytest.approx(1 - tail**2 / np.sum(values**2), rel=1e-6)
        assert resized.weights.rank(module) == rank == resized.weights.alphas[module]
        assert resized.weights.delta(module).shape == SMALL[module]
        lost, whole = lost + tail**2, whole + np.sum(values**2)
    assert resized.overall == pytest.approx(1 - lost / whole, rel=1e-6)


def test_a_rank_that_suffices_changes_nothing_and_one_above_the_dimensions_is_exact():
    weights = made_up(SMALL, ranks=(4, 12), alphas=MIXED)
    kept = resize(weights, 12)
    assert kept.overall == 1 and all(kept.weights.tensors[key] is value for key, value in weights.tensors.items())
    assert kept.weights.alphas == weights.alphas
    exact = resize(weights, 8)
    assert exact.overall == pytest.approx(1, abs=1e-12) and same(weights, exact.weights, tolerance=1e-6)


def test_a_share_of_the_energy_takes_the_fewest_ranks_that_keep_it():
    weights = made_up(SMALL, ranks=(4, 6), scale=1.0)
    resized = resize(weights, energy=0.8)
    for module in weights.modules():
        energies = np.linalg.svd(dense(weights, module), compute_uv=False) ** 2
        shares = np.cumsum(energies) / energies.sum()
        assert resized.weights.rank(module) == int(np.argmax(shares >= 0.8)) + 1
    assert resized.overall >= 0.8
    assert [resize(weights, energy=share).overall for share in (0.5, 0.9, 1.0)] == sorted(
        resize(weights, energy=share).overall for share in (0.5, 0.9, 1.0)
    )
    nothing = made_up(SMALL, scale=0.0)
    assert resize(nothing, energy=0.9).overall == 1 and resize(nothing, 1).weights.rank(nothing.modules()[0]) == 1


def test_a_merge_is_the_sum_whatever_ranks_alphas_and_modules():
    first, second = made_up(SMALL, ranks=(2, 3), alphas=MIXED), made_up(SMALL, ranks=(5,), alphas=(0.5,), seed=1)
    third = made_up({module: SMALL[module] for module in list(SMALL)[:2]}, seed=2)
    merged = merge([(first, 0.7), (second, -1.5), (third, 1.0)])
    for module in SMALL:
        expected = 0.7 * first.delta(module) - 1.5 * second.delta(module)
        expected = expected + third.delta(module) if module in third.alphas else expected
        torch.testing.assert_close(merged.delta(module), expected, atol=1e-7, rtol=1e-5)
    smaller = merge([(first, 0.7), (second, -1.5), (third, 1.0)], rank=2)
    assert same(smaller, resize(merged, 2).weights)
    assert {smaller.rank(module) for module in smaller.modules()} == {2}


def test_ranks_are_nested():
    """Cutting twice is cutting once to the lower rank."""
    weights = made_up(SMALL, ranks=(4,), scale=1.0)
    for high, low in pairwise((3, 2, 1)):
        assert same(resize(resize(weights, high).weights, low).weights, resize(weights, low).weights, tolerance=1e-5)


@pytest.mark.parametrize(("action", "reason"), [
    (lambda plain, dora, wide, other: merge([]), "nothing to merge"),
    (lambda plain, dora, wide, other: merge([(plain, 1), (dora, 1)]), "a DoRA cannot be merged"),
    (lambda plain, dora, wide, other: merge([(wide, 1), (plain, 1)]), "condition channel .* cannot be merged"),
    (lambda plain, dora, wide, other: merge([(other, 1), (plain, 1)]), "conv1 has other shapes .* different bases"),
    (lambda plain, dora, wide, other: resize(dora, 2), "a DoRA cannot be resized"),
    (lambda plain, dora, wide, other: resize(plain, 0), "rank 0 is not at least 1"),
    (lambda plain, dora, wide, other: resize(plain, energy=1.5), r"energy 1.5 is outside \(0, 1\]"),
    (lambda plain, dora, wide, other: resize(plain), "needs a rank or a share"),
])  # fmt: skip
def test_what_has_no_sum_is_refused_by_name(action, reason):
    plain = made_up(SMALL)
    wide = LoraWeights(plain.tensors, plain.alphas, {"conv_in.weight": torch.zeros(4, 8, 3, 3)})
    other = made_up({"unet.mid_block.resnets.0.conv1": torch.Size((7, 8, 3, 3))})
    with pytest.raises(ConfigError, match=reason):
        action(plain, made_up(SMALL, dora=True), wide, other)
