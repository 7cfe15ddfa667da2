"""The frozen base in 8 or 4 bits: bitsandbytes' linear layers in place of torch's (QLoRA, Dettmers et al. 2023).

Only memory is saved: SD 1.5 is slower so, by the published measurements. Convolutions stay as they are; half of
SD 1.5's UNet is linear layers. The weights are packed when the model reaches its device.
"""

from typing import Any, Literal

import torch
from torch import nn

from lora_core.errors import ConfigError


def quantise(model: nn.Module, kind: Literal["int8", "nf4"], dtype: torch.dtype) -> None:
    """Replaces the linear layers in place; move the model to its device afterwards.

    Args:
        dtype: in which the layers compute.

    Raises:
        ConfigError: bitsandbytes does not load.
    """
    try:
        from bitsandbytes import nn as bits
    except Exception as error:  # it fails in many ways where the CUDA libraries do not fit
        reason = str(error).splitlines()[0]
        raise ConfigError(f"base.quantise: bitsandbytes does not load ({reason}); set base.quantise=none") from error
    for path, layer in list(model.named_modules()):
        if type(layer) is nn.Linear:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, _packed(bits, layer, kind, dtype))
    # PEFT chooses its layers by these.
    model.is_loaded_in_8bit, model.is_loaded_in_4bit = kind == "int8", kind == "nf4"  # type: ignore[assignment]


def _packed(bits: Any, layer: nn.Linear, kind: str, dtype: torch.dtype) -> nn.Module:
    shape, bias = (layer.in_features, layer.out_features), layer.bias is not None
    if kind == "nf4":
        made = bits.Linear4bit(*shape, bias=bias, compute_dtype=dtype, quant_type="nf4")
        made.weight = bits.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=made)
        # On some CPUs an evaluation would pack the weights anew, in a form that fits few shapes and no training.
        made.support_avx512bf16_for_cpu = False
    else:
        made = bits.Linear8bitLt(*shape, bias=bias, has_fp16_weights=False)
        made.weight = bits.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    if bias:
        made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return made
