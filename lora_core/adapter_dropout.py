"""Dropout of a LoRA's rank and of whole modules, which PEFT's LoRA lacks (kohya's rank_dropout and module_dropout).

Both draw from torch's generator, which the loop seeds from the position of each batch. They act in training mode alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_core.sections.adapter import AdapterSection


def add_dropout(layers: Iterable[Any], section: AdapterSection) -> None:
    """Hooks the dropouts of the section onto PEFT's LoRA layers."""
    for layer in layers:
        if share := section.rank_dropout:
            layer.lora_A["default"].register_forward_hook(_Dropout(share, _by_rank, scale=1 / (1 - share)))
        if share := section.module_dropout:
            layer.lora_B["default"].register_forward_hook(_Dropout(share, _all, scale=1))


def _by_rank(module: nn.Module, output: Tensor) -> list[int]:
    """A draw for every picture and every rank."""
    channel = 1 if isinstance(module, nn.Conv2d) else output.ndim - 1
    return [size if place in (0, channel) else 1 for place, size in enumerate(output.shape)]


def _all(module: nn.Module, output: Tensor) -> list[int]:
    """One draw for the whole batch."""
    return [1] * output.ndim


@dataclass(frozen=True)
class _Dropout:
    """Drops a share of a layer's output in training.

    Attributes:
        shape: of the draws, for an output.
        scale: of what is kept. Of the rank it is scaled up, so that the expected update stays; modules are not, as in
            stochastic depth at kohya's.
    """

    share: float
    shape: Callable[[nn.Module, Tensor], list[int]]
    scale: float

    def __call__(self, module: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        kept = torch.rand(self.shape(module, output), device=output.device) >= self.share
        return output * kept.to(output.dtype) * self.scale
