"""PEFT's folder: `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` reads it.

The folder is the UNet's; the text encoder, a model of its own to PEFT, has a folder `text_encoder` in it. A condition
channel is written beside, as in a diffusers folder; PEFT does not look at it.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from lora_core.errors import DataError
from lora_core.files import read_json, write_json
from lora_core.formats.diffusers_folder import parsed_key, read_control, with_configs, write_control
from lora_core.formats.families import refuse_other_families
from lora_core.formats.peft_config import lora_config, refuse_other_methods
from lora_core.formats.safetensors_file import as_float32, read_safetensors, save_safetensors
from lora_core.formats.weights import LoraWeights, checked

WEIGHTS_NAME, CONFIG_NAME = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def is_peft_folder(folder: Path) -> bool:
    """Whether a UNet's or a text encoder's configuration lies where PEFT puts it."""
    return any((place / CONFIG_NAME).is_file() for place in (folder, folder / "text_encoder"))


def read_peft_folder(folder: Path) -> LoraWeights:
    """The LoRA of a UNet, a text encoder, or both.

    Raises:
        DataError: another method or family, a configuration that cannot be read, what `checked` refuses.
    """
    tensors: dict[str, Tensor] = {}
    configs: dict[str, dict[str, Any]] = {}
    metadata: dict[str, str] = {}
    for place, default in ((folder, "unet"), (folder / "text_encoder", "text_encoder")):
        if not (place / CONFIG_NAME).is_file():
            continue
        config = read_json(place / CONFIG_NAME)
        if not isinstance(config, dict):
            raise DataError(f"{place / CONFIG_NAME} is no JSON object")
        refuse_other_methods(config, place / CONFIG_NAME)
        found, described = _read_model(place / WEIGHTS_NAME, default)
        if twice := sorted(found.keys() & tensors.keys()):
            raise DataError(f"{folder} gives {twice[0]} a second time in {place.name}/")
        tensors |= found
        metadata = described | metadata
        configs |= {part: config for part in {key.partition(".")[0] for key in found}}
    weights = checked(tensors, {}, folder, control=read_control(folder), metadata=metadata)
    return with_configs(weights, configs, folder / CONFIG_NAME)


def write_peft_folder(weights: LoraWeights, tensors: dict[str, Tensor], metadata: dict[str, str], folder: Path) -> None:
    """Writes the parts into an existing folder. Arguments as of `write_diffusers_folder`."""
    for part, place in (("unet", folder), ("text_encoder", folder / "text_encoder")):
        if not weights.modules(part):
            continue
        place.mkdir(exist_ok=True)
        named = {
            _PREFIX + key.removeprefix(f"{part}."): value
            for key, value in tensors.items()
            if key.startswith(f"{part}.")
        }
        save_safetensors(named, {**metadata, "format": "pt"}, place / WEIGHTS_NAME)
        config = {"peft_type": "LORA", "base_model_name_or_path": None, "inference_mode": True}
        write_json(place / CONFIG_NAME, {**config, **lora_config(weights, part)})
    write_control(weights, folder)


def _read_model(path: Path, default: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_safetensors(path)
    refuse_other_families(tensors, path)
    found = {}
    for key, value in as_float32(tensors, path).items():
        module, part = parsed_key(key, path, default)
        found[f"{module}.{part}"] = value
    return found, metadata
