"""kohya's file, which A1111, ComfyUI and diffusers read: `lora_unet_*`, `lora_te_text_model_*`, an alpha a module.

Three decisions that surprise:

- `lora_te_` is written and `lora_te1_` read: the second is SDXL's spelling, older web UIs drop it for SD 1.x.
- Alphas that differ within the UNet or the text encoder are made one, by scaling `lora_up`. The update stays the same
  up to rounding. diffusers 0.42 finds no module for such an alpha in attention and text encoder, and quietly uses the
  commonest instead.
- DoRA is read (`dora_scale`) and never written: diffusers drops those keys and loads what is left, another LoRA.
"""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from lora_core.errors import ConfigError, DataError
from lora_core.formats.families import refuse_other_families
from lora_core.formats.names import from_kohya_name, is_known, to_kohya_name
from lora_core.formats.safetensors_file import as_float32
from lora_core.formats.weights import DOWN, MAGNITUDE, PARTS, UP, LoraWeights, alpha_value, checked

_TENSORS = {"lora_down.weight": DOWN, "lora_up.weight": UP, "dora_scale": MAGNITUDE}
_PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_")


def is_kohya(tensors: dict[str, Tensor]) -> bool:
    """Whether any key is spelt kohya's way."""
    return any(key.startswith(_PREFIXES) for key in tensors)


def from_kohya(tensors: dict[str, Tensor], source: Path, metadata: dict[str, str] | None = None) -> LoraWeights:
    """The LoRA in a kohya file; alpha 0 or none is the rank.

    Raises:
        DataError: another family, an unknown or repeated module, a key that is left over, what `checked` refuses.
    """
    refuse_other_families(tensors, source)
    found: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, value in as_float32(tensors, source).items():
        name, _, part = key.partition(".")
        try:
            module = from_kohya_name(name)
        except ValueError as error:
            raise DataError(f"{source}: {error}") from error
        if part != "alpha" and part not in _TENSORS:
            known = "lora_down.weight, lora_up.weight and alpha"
            raise DataError(f"{source}: {key} has no known meaning; a module has {known}")
        target = f"{module}.{_TENSORS.get(part, part)}"
        if target in found or (part == "alpha" and module in alphas):
            raise DataError(f"{source}: {key} is given twice, as lora_te_ and as lora_te1_")
        if part == "alpha":
            alphas[module] = alpha_value(value, key, source)
        else:
            found[target] = _magnitude(value, key, source) if part == "dora_scale" else value
    return checked(found, alphas, source, metadata=metadata)


def to_kohya(weights: LoraWeights) -> dict[str, Tensor]:
    """The tensors of a kohya file, float32.

    Raises:
        ConfigError: DoRA, a condition channel, or a module that SD 1.x does not have.
    """
    if weights.dora:
        raise ConfigError("a kohya file cannot hold DoRA as diffusers reads it; write --format diffusers or peft")
    if weights.control:
        raise ConfigError(
            "a kohya file cannot hold the condition channel (control.safetensors), and without it this LoRA is another "
            "one; write --format diffusers or peft"
        )
    even, tensors = with_even_alphas(weights), {}
    for module in even.modules():
        if not is_known(module):
            raise ConfigError(f"{module} has no name in kohya's format; write --format diffusers or peft")
        name = to_kohya_name(module)
        tensors[f"{name}.lora_down.weight"] = even.tensors[f"{module}.{DOWN}"]
        tensors[f"{name}.lora_up.weight"] = even.tensors[f"{module}.{UP}"]
        tensors[f"{name}.alpha"] = torch.tensor(even.alphas[module])
    return tensors


def with_even_alphas(weights: LoraWeights) -> LoraWeights:
    """The same update with one alpha in the UNet and one in the text encoder: the commonest, the lowest of equals."""
    tensors, alphas = dict(weights.tensors), dict(weights.alphas)
    for part in PARTS:
        modules = weights.modules(part)
        counts = Counter(weights.alphas[module] for module in modules)
        common = min(counts, key=lambda alpha: (-counts[alpha], alpha), default=0.0)
        for module in modules:
            if alphas[module] != common:
                tensors[f"{module}.{UP}"] = tensors[f"{module}.{UP}"] * (alphas[module] / common)
                alphas[module] = common
    return LoraWeights(tensors, alphas, weights.control, weights.metadata)


def _magnitude(value: Tensor, key: str, source: Path) -> Tensor:
    """LyCORIS' magnitudes are a column, one an output; the older row, one an input, is another normalisation."""
    if value.ndim > 1 and value.shape[0] == 1 and value.shape[1] > 1:
        raise DataError(
            f"{source}: {key} is DoRA normalised over the inputs (LyCORIS without wd_on_output), which PEFT and "
            "diffusers do not have; train it with wd_on_output"
        )
    return value.flatten()
