"""Reads a LoRA from whatever holds it: a kohya file, a diffusers file or folder, a PEFT folder."""

from pathlib import Path

from lora_core.errors import DataError
from lora_core.formats import diffusers_folder, peft_folder
from lora_core.formats.diffusers_folder import from_diffusers, read_control, read_diffusers_folder
from lora_core.formats.kohya import from_kohya, is_kohya
from lora_core.formats.peft_folder import is_peft_folder, read_peft_folder
from lora_core.formats.safetensors_file import read_safetensors
from lora_core.formats.weights import LoraWeights

_PICKLED_FOLDERS = ("pytorch_lora_weights.bin", "adapter_model.bin")


def read_lora(path: Path) -> LoraWeights:
    """Reads a LoRA for SD 1.x or 2.x; the content says which format it is.

    Returns:
        float32 tensors on the CPU, alphas in kohya's convention.

    Raises:
        DataError: there is no LoRA, or one that cannot be used: a pickle, a base model, another family (SDXL, FLUX) or
            kind (LoHa, LoKr), a truncated file, an unknown key, NaN. The message names file, key and reason.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.name == peft_folder.WEIGHTS_NAME and is_peft_folder(path.parent):
        return read_peft_folder(path.parent)
    tensors, metadata = read_safetensors(path)
    if is_kohya(tensors):
        return from_kohya(tensors, path, metadata)
    if path.name == peft_folder.WEIGHTS_NAME or any(key.startswith("base_model.model.") for key in tensors):
        raise DataError(f"{path} is PEFT's and alpha stands in {peft_folder.CONFIG_NAME}, which is not beside it")
    control = read_control(path.parent) if path.name == diffusers_folder.WEIGHTS_NAME else None
    return from_diffusers(tensors, path, metadata, control)


def _read_folder(folder: Path) -> LoraWeights:
    if is_peft_folder(folder):
        return read_peft_folder(folder)
    if (folder / diffusers_folder.WEIGHTS_NAME).is_file():
        return read_diffusers_folder(folder)
    for name in _PICKLED_FOLDERS:
        if (folder / name).exists():
            raise DataError(f"{folder / name} is a pickle, which can run code when opened; only .safetensors is read")
    if (folder / "model_index.json").exists() or (folder / "config.json").exists():
        raise DataError(f"{folder} is a base model, not a LoRA")
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    hint = f"name one of its files: {', '.join(files[:3])}" if files else "it is neither a diffusers nor a PEFT folder"
    raise DataError(f"{folder} holds no LoRA of a known name; {hint}")
