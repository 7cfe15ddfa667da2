"""Writes a LoRA in one of the three formats, whole or not at all, the same bytes for the same content."""

from pathlib import Path

import torch
from torch import Tensor

from lora_core.errors import ConfigError
from lora_core.files import file_digest, whole_folder
from lora_core.formats import Dtype, Format, diffusers_folder, peft_folder
from lora_core.formats.diffusers_folder import write_diffusers_folder
from lora_core.formats.kohya import to_kohya
from lora_core.formats.metadata import tensor_hashes
from lora_core.formats.peft_folder import write_peft_folder
from lora_core.formats.safetensors_file import save_safetensors
from lora_core.formats.weights import LoraWeights

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FOLDER_FILES = {
    diffusers_folder.WEIGHTS_NAME,
    diffusers_folder.CONTROL_NAME,
    peft_folder.WEIGHTS_NAME,
    peft_folder.CONFIG_NAME,
    "text_encoder",
}


def write_lora(
    weights: LoraWeights, path: Path, form: Format, metadata: dict[str, str] | None = None, dtype: Dtype = "fp32"
) -> str:
    """Writes a LoRA; what was there before is replaced when the new one is complete.

    Args:
        path: a `.safetensors` file for 'kohya', a folder for 'diffusers' and 'peft'.
        metadata: of the weights file, for instance `training_metadata`; a kohya file is given its hashes here.
        dtype: of the matrices; alpha and a condition channel stay in float32.

    Returns:
        sha256 of the weights file.

    Raises:
        ConfigError: the format cannot hold it (DoRA, condition channel), the path does not suit the format or holds
            something else, or a value is too large for fp16.
        ResourceError: the place cannot be written.
    """
    check_target(path, form)
    # diffusers refuses a file that has kohya's alphas and its own configuration.
    metadata = {key: value for key, value in (metadata or {}).items() if key != diffusers_folder.CONFIG_KEY}
    if form == "kohya":
        tensors = _in_dtype(to_kohya(weights), dtype)
        save_safetensors(tensors, {**metadata, **tensor_hashes(tensors, metadata)}, path)
        return file_digest(path)
    tensors = _in_dtype(weights.tensors, dtype)
    write = write_diffusers_folder if form == "diffusers" else write_peft_folder
    with whole_folder(path) as folder:
        write(weights, tensors, metadata, folder)
    return file_digest(weights_file(path, form))


def weights_file(path: Path, form: Format) -> Path:
    """The file that holds the matrices: `path` itself, or one in the folder; with PEFT the UNet's if there is one."""
    if form == "kohya":
        return path
    if form == "diffusers":
        return path / diffusers_folder.WEIGHTS_NAME
    first = path / peft_folder.WEIGHTS_NAME
    return first if first.exists() else path / "text_encoder" / peft_folder.WEIGHTS_NAME


def check_target(path: Path, form: Format) -> None:
    """Returns where the format can be written: a folder is replaced as a whole, so it must hold nothing else.

    Raises:
        ConfigError: a folder's path for a file or the other way round, or a folder with other files in it.
    """
    if form == "kohya":
        if path.suffix != ".safetensors":
            raise ConfigError(f"{path}: a kohya file is named *.safetensors")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; a kohya LoRA is one file")
        return
    if path.suffix == ".safetensors":
        raise ConfigError(f"{path}: a {form} LoRA is a folder; leave out .safetensors")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; a {form} LoRA is a folder")
    others = sorted({entry.name for entry in path.iterdir()} - _FOLDER_FILES) if path.is_dir() else []
    if others:
        raise ConfigError(f"{path} holds other files ({others[0]}) and would be replaced; name a folder of its own")


def _in_dtype(tensors: dict[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    cast = {key: value if key.endswith(".alpha") else value.to(DTYPES[dtype]) for key, value in tensors.items()}
    for key, value in cast.items():
        if not torch.isfinite(value).all():
            raise ConfigError(f"{key} has values that {dtype} cannot hold; write --dtype bf16 or fp32")
    return cast
