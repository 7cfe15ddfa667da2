"""Low-rank updates without their full matrices: cut to a lower rank, add up.

The update of a module is D = s B A. With thin QR factorisations B = Q_b R_b and A^T = Q_a R_a, D = Q_b (s R_b R_a^T)
Q_a^T, so that the singular values of D are those of the small matrix in the middle (rank by rank), and cutting there
is the best approximation of D (Eckart-Young). A sum needs no decomposition at all: matrices stacked, ranks added.
Convolutions are the matrices of their flattened kernels. Computed in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lora_core.errors import ConfigError
from lora_core.formats.weights import DOWN, UP, LoraWeights


@dataclass(frozen=True)
class Resized:
    """A LoRA of lower rank.

    Attributes:
        kept: of each module, the share of the squared Frobenius norm of its update that is left, 0 to 1.
        overall: the same of all modules together.
    """

    weights: LoraWeights
    kept: dict[str, float]
    overall: float


def resize(weights: LoraWeights, rank: int | None = None, energy: float | None = None) -> Resized:
    """Cuts every module's update to its largest singular values.

    A module whose rank suffices already stays as it is, alpha included; a cut one has alpha = rank.

    Args:
        rank: at most this rank.
        energy: at most as many ranks as keep this share of the squared norm, in (0, 1]; with `rank`, whichever is less.

    Raises:
        ConfigError: neither limit, a limit out of range, or DoRA, whose magnitudes belong to the whole update.
    """
    if rank is None and energy is None:
        raise ConfigError("resizing needs a rank or a share of the energy")
    if rank is not None and rank < 1:
        raise ConfigError(f"rank {rank} is not at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise ConfigError(f"energy {energy} is outside (0, 1]")
    if weights.dora:
        raise ConfigError("a DoRA cannot be resized: its magnitudes belong to the whole update; leave out --rank")
    tensors, alphas = dict(weights.tensors), dict(weights.alphas)
    before, after = {}, {}
    for module in weights.modules():
        cut = _cut(weights, module, rank, energy)
        tensors[f"{module}.{DOWN}"], tensors[f"{module}.{UP}"], alphas[module] = cut.down, cut.up, cut.alpha
        before[module], after[module] = cut.before, cut.after
    resized = LoraWeights(tensors, alphas, weights.control, weights.metadata)
    kept = {module: after[module] / before[module] if before[module] else 1.0 for module in before}
    total = sum(before.values())
    return Resized(resized, kept, sum(after.values()) / total if total else 1.0)


def merge(sources: Sequence[tuple[LoraWeights, float]], rank: int | None = None) -> LoraWeights:
    """The sum of the updates, each times its multiplier; exact, whatever their ranks, alphas and modules.

    Args:
        rank: resize the sum to this rank.

    Raises:
        ConfigError: no source, DoRA or a condition channel among them, or LoRAs for bases of other shapes.
    """
    if not sources:
        raise ConfigError("nothing to merge")
    for weights, _ in sources:
        if weights.dora:
            raise ConfigError("a DoRA cannot be merged or multiplied: its magnitudes do not add up; export it alone")
        if weights.control:
            raise ConfigError(
                "a LoRA with a condition channel (control.safetensors) cannot be merged or multiplied: its conv_in "
                "belongs to it alone; export it alone"
            )
    tensors: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for module in sorted({module for weights, _ in sources for module in weights.modules()}):
        pairs = [(weights, factor) for weights, factor in sources if module in weights.alphas]
        downs = [weights.tensors[f"{module}.{DOWN}"] for weights, _ in pairs]
        ups = [weights.tensors[f"{module}.{UP}"] for weights, _ in pairs]
        if len({(down.shape[1:], up.shape[0]) for down, up in zip(downs, ups, strict=True)}) > 1:
            raise ConfigError(f"{module} has other shapes in the other LoRA; they were trained on different bases")
        scaled = [up * (factor * weights.scale(module)) for up, (weights, factor) in zip(ups, pairs, strict=True)]
        tensors[f"{module}.{DOWN}"], tensors[f"{module}.{UP}"] = torch.cat(downs), torch.cat(scaled, dim=1)
        alphas[module] = float(tensors[f"{module}.{DOWN}"].shape[0])
    merged = LoraWeights(tensors, alphas)
    return merged if rank is None else resize(merged, rank).weights


class _Cut(NamedTuple):
    """A module's new matrices and alpha, and the squared norm of its update before and after."""

    down: Tensor
    up: Tensor
    alpha: float
    before: float
    after: float


def _cut(weights: LoraWeights, module: str, rank: int | None, energy: float | None) -> _Cut:
    down, up = weights.tensors[f"{module}.{DOWN}"], weights.tensors[f"{module}.{UP}"]
    left, left_core = torch.linalg.qr(up.flatten(1).double())
    right, right_core = torch.linalg.qr(down.flatten(1).double().T)
    u, values, vt = torch.linalg.svd(weights.scale(module) * left_core @ right_core.T, full_matrices=False)
    energies = values.square()
    total = float(energies.sum())
    keep = min(rank or len(values), len(values))
    if energy is not None and total:
        enough = int((energies.cumsum(0) < energy * total * (1 - 1e-12)).sum()) + 1
        keep = min(keep, enough)
    elif energy is not None:
        keep = 1  # an update that is zero
    if keep == len(values) and (rank is None or rank >= weights.rank(module)):
        return _Cut(down, up, weights.alphas[module], total, total)
    root = values[:keep].sqrt()
    new_down = (root[:, None] * vt[:keep] @ right.T).float().reshape(keep, *down.shape[1:])
    new_up = (left @ u[:, :keep] * root).float().reshape(up.shape[0], keep, *up.shape[2:])
    return _Cut(new_down, new_up, float(keep), total, float(energies[:keep].sum()))
