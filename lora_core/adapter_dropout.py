"""Dropout of a LoRA's rank and of whole modules, which PEFT's LoRA lacks (kohya's rank_dropout and module_dropout).

Both draw from torch's generator, which the loop seeds from the position of each batch. They act in training mode alone.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lora_core.sections.adapter import AdapterSection


def add_dropout(layers: Iterable[Any], section: AdapterSection) -> None:
    """Hooks the dropouts of the section onto PEFT's LoRA layers."""
    for layer in layers:
        if section.rank_dropout:
            layer.lora_A["default"].register_forward_hook(_RankDropout(section.rank_dropout))
        if section.module_dropout:
            layer.lora_B["default"].register_forward_hook(_ModuleDropout(section.module_dropout))


class _RankDropout:
    """Drops a share of the rank of each picture and scales the rest up, so that the expected update stays."""

    def __init__(self, share: float):
        self.keep = 1 - share

    def __call__(self, module: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        channel = 1 if isinstance(module, nn.Conv2d) else output.ndim - 1
        shape = [size if place in (0, channel) else 1 for place, size in enumerate(output.shape)]
        kept = torch.rand(shape, device=output.device) < self.keep
        return output * kept.to(output.dtype) / self.keep


class _ModuleDropout:
    """Drops a module's update for a whole batch; what is kept is not scaled, as in stochastic depth at kohya's."""

    def __init__(self, share: float):
        self.keep = 1 - share

    def __call__(self, module: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        return output * (torch.rand((), device=output.device) < self.keep).to(output.dtype)
