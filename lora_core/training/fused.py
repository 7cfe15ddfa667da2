"""A LoRA layer's forward and backward pass in fewer, larger steps than PEFT's; the parameters stay PEFT's.

PEFT computes x W' + s (x A') B': two thin products, a scaling and a sum over activations as large as the output, and as
much again backward. Two forms do the same with less to read and write:

    merged   x (W + s B A)'; for float32 and more rows than the weight is wide. W + s B A costs little then, and kept
             for the backward pass it is smaller than the activations.
    added    x W' with s (x A') B' added in place; for half precision, in which an update would be lost beside W.

Backward both take gradients through the thin matrices, so no gradient of W is ever formed: with g the gradient of the
output, dB = s g' (x A'), dA = s (g B)' x.
"""

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora.layer import Conv2d as LoraConv2d
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional

from lora_core.lora import Adapter


def fuse(adapter: Adapter) -> int:
    """Replaces the forward pass of the adapter's linear layers and 1x1 convolutions.

    Layers that do more than a plain LoRA (DoRA, dropout, a quantised base) and larger convolutions keep PEFT's.

    Returns:
        The number of layers that were replaced.
    """
    section = adapter.section
    if section.dora or section.dropout or section.rank_dropout or section.module_dropout:
        return 0
    count = 0
    for layer in adapter.layers.values():
        base = layer.get_base_layer()
        if type(layer) is LoraLinear and type(base) is nn.Linear:
            layer.forward = _replacement(layer, layer.forward, channels_first=False)
        elif type(layer) is LoraConv2d and base.kernel_size == (1, 1) and base.stride == (1, 1) and base.groups == 1:
            layer.forward = _replacement(layer, layer.forward, channels_first=True)
        else:
            continue
        count += 1
    return count


def _replacement(layer: Any, plain: Callable[..., Tensor], *, channels_first: bool) -> Callable[..., Tensor]:
    """A 1x1 convolution is a linear layer over channels, for which channels_last need not be copied."""
    base, down, up = layer.get_base_layer(), layer.lora_A["default"], layer.lora_B["default"]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if layer.disable_adapters:
            return plain(x, *args, **kwargs)
        weight, a, b = (one.weight.flatten(1) for one in (base, down, up))
        rows = x.movedim(1, -1) if channels_first else x
        answer = lora_linear(rows, weight, base.bias, a, b, layer.scaling["default"])
        return answer.movedim(-1, 1) if channels_first else answer

    return forward


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """x (W + scale B A)' + bias, differentiable in x, A and B.

    Args:
        x: (…, in).
        weight: W, frozen, (out, in); under autocast in the autocast type.
        down: A, float32 (rank, in).
        up: B, float32 (out, rank).

    Returns:
        (…, out) in the weight's type.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
        weight = weight.to(x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
    rows, (width, depth) = x.numel() // x.shape[-1], weight.shape
    form = _Merged if x.dtype == torch.float32 and rows * (width + depth) >= width * depth else _Added
    return form.apply(x, weight, bias, down, up, scale)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        merged = torch.addmm(weight, up, down, alpha=scale)
        ctx.save_for_backward(x, merged, down, up)
        ctx.scale = scale
        return functional.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, down, up = ctx.saved_tensors
        seen, rows = x.flatten(0, -2), gradient.flatten(0, -2)
        to_x = (rows @ merged).view(x.shape) if ctx.needs_input_grad[0] else None
        return to_x, None, None, *_to_matrices(seen, rows @ up, rows, down, ctx.scale), None


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        answer = functional.linear(x, weight, bias)
        thin = x.flatten(0, -2) @ down.to(x.dtype).T
        answer.view(-1, weight.shape[0]).addmm_(thin, up.to(x.dtype).T, alpha=scale)
        return answer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up = ctx.saved_tensors
        seen, rows = x.flatten(0, -2), gradient.flatten(0, -2)
        low, to_x = rows @ up.to(rows.dtype), None
        if ctx.needs_input_grad[0]:
            to_x = (rows @ weight).addmm_(low, down.to(rows.dtype), alpha=ctx.scale).view(x.shape)
        return to_x, None, None, *_to_matrices(seen, low, rows, down, ctx.scale), None


def _to_matrices(seen: Tensor, low: Tensor, rows: Tensor, down: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The gradients of A and B, float32; `low` is g B."""
    to_down = (low.T @ seen).float().mul_(scale)
    to_up = (rows.T @ (seen @ down.to(seen.dtype).T)).float().mul_(scale)
    return to_down, to_up
