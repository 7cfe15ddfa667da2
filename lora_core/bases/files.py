"""Where a base model's files are, whether they are a base at all, and their digest. Imports no torch."""

import json
import re
import struct
from functools import lru_cache
from pathlib import Path

from lora_core.bases.pickles import SUFFIXES, pickled_keys
from lora_core.errors import BaseModelError
from lora_core.experiment import BaseModelSection
from lora_core.files import file_digest, value_digest

POCKET_FOLDER = Path(__file__).with_name("pocket")
DEFAULT_CONFIG = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_WEIGHTS = ("unet", "vae", "text_encoder")
_WHY = ", for they can run code when opened; convert them, or set base.allow_pickle=true for files that you trust"
_HUB_FILES = ["model_index.json", *(f"{part}/*.{end}" for part in _PARTS for end in ("json", "txt", "safetensors"))]


def locate_base(section: BaseModelSection) -> Path:
    """The local folder or file of the base; a hub id is taken from the cache, or downloaded once.

    Raises:
        BaseModelError: there is no such base.
    """
    if section.model == "pocket":
        return POCKET_FOLDER
    path = Path(section.model).expanduser()
    if path.exists():
        return path
    if path.suffix or path.is_absolute() or not _HUB_ID.match(section.model):
        raise BaseModelError(f"base.model: {section.model} does not exist; put the base into model/ and name it here")
    return fetch_from_hub(section.model, section.revision, _HUB_FILES)


def fetch_from_hub(hub_id: str, revision: str | None, patterns: list[str]) -> Path:
    """A hub repository's files as a local folder: from the cache if complete, else downloaded once.

    Raises:
        BaseModelError: offline and not cached, or no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        pass
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises a family of its own and httpx's
        reason = str(error).splitlines()[0]
        raise BaseModelError(
            f"base.model: {hub_id} is neither here nor downloadable ({reason}); "
            "download it on a machine with a network and name the folder or file instead"
        ) from error


def check_base(section: BaseModelSection) -> Path:
    """Checks that the files are a Stable Diffusion base, without loading them.

    Returns:
        The folder or file.

    Raises:
        BaseModelError: naming what is wrong and the way out.
    """
    path = locate_base(section)
    if path.is_dir():
        _check_folder(path, section.allow_pickle)
    else:
        _check_single_file(path, section.allow_pickle)
    return path


def base_digest(section: BaseModelSection) -> str:
    """sha256 over the weights and configurations of the base; the same before and after every round."""
    path = locate_base(section)
    files = [path] if path.is_file() else sorted(_digested_files(path))
    return value_digest(
        [(file.name if path.is_file() else str(file.relative_to(path).as_posix()), _digest(file)) for file in files]
    )


def _digested_files(folder: Path) -> list[Path]:
    """Pickled weights count where they are all that a part has."""
    plain = [file for part in _PARTS for file in (folder / part).glob("*") if file.suffix in {".json", ".txt"}]
    weights = [file for part in _WEIGHTS for file in weight_files(folder / part)]
    return [file for file in [*plain, *weights] if file.is_file()]


def weight_files(part: Path) -> list[Path]:
    """The files that hold a part's weights."""
    return sorted(part.glob("*.safetensors")) or sorted(part.glob("*.bin"))


def stored_keys(file: Path) -> list[str]:
    """The tensor names in a file of weights.

    Raises:
        BaseModelError: it cannot be read as such.
    """
    return pickled_keys(file) if file.suffix in SUFFIXES else safetensors_keys(file)


def _digest(file: Path) -> str:
    status = file.stat()
    return _digest_of_version(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of_version(file: Path, size: int, modified: int) -> str:
    """Hashes gigabytes once a process as long as size and time stay the same."""
    return file_digest(file)


def _check_folder(path: Path, allow_pickle: bool) -> None:
    index = path / "model_index.json"
    if not index.exists():
        raise BaseModelError(f"base.model: {path} has no model_index.json, so it is no diffusers folder")
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError) as error:
        raise BaseModelError(f"base.model: {index} is not a diffusers index") from error
    if not kind.startswith("StableDiffusion") or "XL" in kind or "3" in kind:
        raise BaseModelError(f"base.model: {path} is a {kind}; this family is StableDiffusionPipeline (SD 1.x, 2.x)")
    for part in _PARTS:
        if not (path / part).is_dir():
            raise BaseModelError(f"base.model: {path} lacks the folder {part}/; download the base again")
    for part in _WEIGHTS:
        files = weight_files(path / part)
        if not files or (files[0].suffix in SUFFIXES and not allow_pickle):
            raise BaseModelError(
                f"base.model: {path / part} has no .safetensors file; pickled weights are refused{_WHY}"
            )
        for file in files:
            if file.suffix in SUFFIXES:
                pickled_keys(file)


def _check_single_file(path: Path, allow_pickle: bool) -> None:
    pickled = allow_pickle and path.suffix in SUFFIXES
    if path.suffix != ".safetensors" and not pickled:
        raise BaseModelError(f"base.model: {path} is not a .safetensors file; pickled checkpoints are refused{_WHY}")
    keys = stored_keys(path)
    if any("lora" in key for key in keys):
        raise BaseModelError(f"base.model: {path} is a LoRA, not a base model")
    if not any(key.startswith("model.diffusion_model.") for key in keys):
        raise BaseModelError(
            f"base.model: {path} holds no UNet (no key model.diffusion_model.*), so it is not a base model"
        )
    for prefix, part in (
        ("first_stage_model.", "autoencoder"),
        ("cond_stage_model.transformer.", "SD 1.x text encoder"),
    ):
        if not any(key.startswith(prefix) for key in keys):
            raise BaseModelError(f"base.model: {path} holds no {part} (no key {prefix}*); use a full SD 1.x checkpoint")


def safetensors_keys(path: Path) -> list[str]:
    """The tensor names in a .safetensors header.

    Raises:
        BaseModelError: the file is truncated or is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > 200_000_000:
                raise ValueError("header too long")
            header = json.loads(file.read(size))
        end = max((value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"), default=0)
        if path.stat().st_size != 8 + size + end:
            raise ValueError(f"{path.stat().st_size} bytes instead of {8 + size + end}")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{path} is not a whole .safetensors file ({error}); download it again") from error
    return [key for key in header if key != "__metadata__"]
