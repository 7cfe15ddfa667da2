"""diffusers' folder: `pytorch_lora_weights.safetensors` with the PEFT configuration as metadata, and the condition.

The text encoder is written with the level `text_model`, which transformers 5 dropped: diffusers takes it off where the
model has none, older versions and ComfyUI need it. Alpha stands in the metadata alone (`lora_adapter_metadata`), as
diffusers itself writes it; ComfyUI does not look there, so it wants the kohya file.

Reading takes what has borne the name over the years: PEFT's keys, the older `….lora.down.weight` and
`….lora_linear_layer.down.weight`, and the attention processors' `….processor.to_q_lora.down.weight`; alpha as keys, as
metadata, or none at all, which means the rank.
"""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_core.errors import DataError
from lora_core.formats.families import refuse_other_families
from lora_core.formats.names import is_known, usual_modules
from lora_core.formats.peft_config import kohya_alpha, lora_config, refuse_other_methods
from lora_core.formats.safetensors_file import as_float32, read_safetensors, save_safetensors
from lora_core.formats.weights import DOWN, MAGNITUDE, PARTS, UP, LoraWeights, alpha_value, checked
from lora_core.settings import nearest

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
CONTROL_NAME = "control.safetensors"
CONFIG_KEY = "lora_adapter_metadata"
_SUFFIXES = (
    (re.compile(r"\.lora_A(\.\w+)?\.weight$"), "", DOWN),
    (re.compile(r"\.lora_B(\.\w+)?\.weight$"), "", UP),
    (re.compile(r"\.lora_magnitude_vector(\.\w+)?(\.weight)?$"), "", MAGNITUDE),
    (re.compile(r"\.lora(_linear_layer)?\.down\.weight$"), "", DOWN),
    (re.compile(r"\.lora(_linear_layer)?\.up\.weight$"), "", UP),
    (re.compile(r"\.(to_[qkv]|to_out)_lora\.down\.weight$"), r".\1", DOWN),
    (re.compile(r"\.(to_[qkv]|to_out)_lora\.up\.weight$"), r".\1", UP),
    (re.compile(r"\.(to_[qkv]|to_out)_lora\.alpha$"), r".\1", "alpha"),
    (re.compile(r"(\.lora(_linear_layer)?)?\.alpha$"), "", "alpha"),
)
_OLD_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def from_diffusers(
    tensors: dict[str, Tensor],
    source: Path,
    metadata: dict[str, str] | None = None,
    control: dict[str, Tensor] | None = None,
) -> LoraWeights:
    """The LoRA in a file with diffusers' naming.

    Raises:
        DataError: another family, a key that is no module of SD 1.x or 2.x, alpha given in two ways, metadata that
            cannot be read, what `checked` refuses.
    """
    refuse_other_families(tensors, source)
    found: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, value in as_float32(tensors, source).items():
        module, part = parsed_key(key, source)
        if f"{module}.{part}" in found or (part == "alpha" and module in alphas):
            raise DataError(f"{source}: {key} gives {module} a second time")
        if part == "alpha":
            alphas[module] = alpha_value(value, key, source)
        else:
            found[f"{module}.{part}"] = value
    configs = _configs(metadata or {}, source)
    if alphas and configs:
        raise DataError(f"{source} has alpha both as keys and as metadata, which diffusers refuses; remove one of them")
    weights = checked(found, alphas, source, control=control, metadata=metadata)
    return with_configs(weights, configs, source)


def with_configs(weights: LoraWeights, configs: dict[str, dict[str, Any]], source: Path) -> LoraWeights:
    """The same matrices with the alphas of PEFT's configurations, one for each of 'unet' and 'text_encoder'."""
    alphas = dict(weights.alphas)
    for part, config in configs.items():
        refuse_other_methods(config, source)
        for module in weights.modules(part):
            path = module.removeprefix(f"{part}.")
            alphas[module] = kohya_alpha(config, path, weights.rank(module), source)
    return LoraWeights(weights.tensors, alphas, weights.control, weights.metadata)


def read_diffusers_folder(folder: Path) -> LoraWeights:
    """The LoRA in a diffusers folder, its condition channel included. Raises as `from_diffusers`."""
    tensors, metadata = read_safetensors(folder / WEIGHTS_NAME)
    return from_diffusers(tensors, folder / WEIGHTS_NAME, metadata, read_control(folder))


def write_diffusers_folder(
    weights: LoraWeights, tensors: dict[str, Tensor], metadata: dict[str, str], folder: Path
) -> None:
    """Writes weights and condition into an existing folder.

    Args:
        weights: says ranks and alphas.
        tensors: its values in the precision to write.
        metadata: further metadata of the file.
    """
    parts = [part for part in PARTS if weights.modules(part)]
    config = {f"{part}.{key}": value for part in parts for key, value in lora_config(weights, part).items()}
    named = {_written_key(key): value for key, value in tensors.items()}
    described = {**metadata, "format": "pt", CONFIG_KEY: json.dumps(config, sort_keys=True)}
    save_safetensors(named, described, folder / WEIGHTS_NAME)
    write_control(weights, folder)


def read_control(folder: Path) -> dict[str, Tensor]:
    """The condition channel beside a LoRA, float32; empty where there is none."""
    path = folder / CONTROL_NAME
    return as_float32(read_safetensors(path)[0], path) if path.exists() else {}


def write_control(weights: LoraWeights, folder: Path) -> None:
    """Writes the condition channel beside the LoRA, always in float32, if there is one."""
    if weights.control:
        save_safetensors(weights.control, {"format": "pt"}, folder / CONTROL_NAME)


def parsed_key(key: str, source: Path, default: str = "unet") -> tuple[str, str]:
    """A key's module ('unet.….to_q') and what of it the tensor is.

    Args:
        default: the part that is meant where the key names none.

    Raises:
        DataError: not such a key; the message names the nearest module.
    """
    for pattern, kept, part in _SUFFIXES:
        if pattern.search(key):
            module = _module(pattern.sub(kept, key), default)
            if is_known(module):
                return module, part
            break
    raise DataError(f"{source}: unknown key '{key}'{nearest(_module(key, default), usual_modules())}")


def _written_key(key: str) -> str:
    if not key.startswith("text_encoder."):
        return key
    key = key.replace("text_encoder.", "text_encoder.text_model.", 1)
    # transformers 5 loads the text encoder's part and does not know a magnitude without this ending.
    return f"{key}.weight" if key.endswith(MAGNITUDE) else key


def _module(path: str, default: str) -> str:
    path = path.replace(".processor.", ".").removeprefix("base_model.model.")
    part, _, rest = path.partition(".")
    if part not in PARTS:
        part, rest = ("text_encoder" if path.startswith(("text_model.", "encoder.")) else default), path
    if part == "unet":
        return f"unet.{re.sub(r'[.]to_out$', '.to_out.0', rest)}"
    head, _, last = rest.removeprefix("text_model.").rpartition(".")
    return f"text_encoder.{head}.{_OLD_TEXT_NAMES.get(last, last)}"


def _configs(metadata: dict[str, str], source: Path) -> dict[str, dict[str, Any]]:
    """PEFT's configuration of each part; empty where the file has none."""
    if CONFIG_KEY not in metadata:
        return {}
    try:
        values = json.loads(metadata[CONFIG_KEY])
        items = list(values.items())
    except (ValueError, AttributeError) as error:
        raise DataError(f"{source}: its metadata {CONFIG_KEY} is no JSON object: {error}") from error
    configs = {
        part: {key.removeprefix(f"{part}."): value for key, value in items if key.startswith(f"{part}.")}
        for part in PARTS
    }
    return {part: config for part, config in configs.items() if config}
