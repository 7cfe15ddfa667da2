"""The update folded into the base's weights while pictures are made: a LoRA layer then costs what a bare one does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lora_core.lora import Adapter, load_lora


@contextmanager
def merged(adapter: Adapter) -> Iterator[None]:
    """Within the block the enabled update is part of the weights; afterwards they are as before, to the bit.

    A base in half precision or in fewer bits keeps the update apart: rounded to bf16, the sum of a weight and a small
    update is often the weight alone.
    """
    layers = adapter.layers.values()
    if adapter.base.dtype != torch.float32 or any(
        layer.get_base_layer().weight.dtype != torch.float32 for layer in layers
    ):
        yield
        return
    before = []
    try:
        for layer in layers:
            weight = layer.get_base_layer().weight
            before.append((layer, weight, weight.data))
            weight.data = weight.data.clone()
            layer.merge()
        yield
    finally:
        for layer, weight, values in before:
            weight.data = values  # PEFT's unmerge subtracts, which leaves rounding errors
            layer.merged_adapters.clear()


@contextmanager
def in_place(adapter: Adapter, folder: Path | None, scale: float = 1.0) -> Iterator[None]:
    """Within the block the checkpoint of the folder is part of the weights at this scale; no folder: the bare base."""
    adapter.enable(folder is not None)
    if folder is None:
        yield
        return
    adapter.load(load_lora(folder))
    adapter.scale(scale)
    with merged(adapter):
        yield
