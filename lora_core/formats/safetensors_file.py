"""`.safetensors` files: read with every doubt removed, written with bytes that depend on the content alone."""

import json
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_core.errors import DataError
from lora_core.files import whole_file

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
# What stands at the start of a file that a download left under a wrong name.
_IMPOSTORS = {
    b"PK\x03\x04": "a pickle or zip archive under another name; only .safetensors is read",
    b"\x80\x02": "a pickle under another name; only .safetensors is read",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with git lfs pull",
    b"<": "a web page, not the file itself; download it again, logged in if the site asks for it",
}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a whole file.

    Returns:
        the tensors on the CPU in their own dtypes, and the file's `__metadata__`.

    Raises:
        DataError: no such file, a pickle, truncated, or otherwise no safetensors file.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix.lower() in _PICKLES:
        raise DataError(f"{path} is a pickle, which can run code when opened; only .safetensors is read")
    if path.suffix.lower() != ".safetensors":
        raise DataError(f"{path}: only .safetensors files are read")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} {_reason(path, error)}") from error


def save_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Writes a `.safetensors` file whole or not at all.

    Raises:
        ResourceError: the folder cannot be written.
    """
    content = safetensors_bytes(tensors, metadata)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A file's content, metadata in sorted order; the library leaves it unordered, so its bytes change by the run."""
    plain = save({key: tensors[key].contiguous() for key in sorted(tensors)})
    size = header_size(plain)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + plain[8 + size :]


def header_size(content: bytes) -> int:
    """Length of the JSON header; it begins at byte 8 and the tensors follow it."""
    return int(struct.unpack("<Q", content[:8])[0])


def as_float32(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Copies in float32, free of the file that they were mapped from.

    Raises:
        DataError: a tensor of integers, which no LoRA has.
    """
    for key, value in tensors.items():
        if not value.is_floating_point():
            raise DataError(f"{source}: {key} holds {str(value.dtype).removeprefix('torch.')}, not floating point")
    return {key: value.to(torch.float32, copy=True) for key, value in tensors.items()}


def _reason(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError:
        return f"cannot be read: {error}"
    if not start:
        return "is empty; download it again"
    for mark, reason in _IMPOSTORS.items():
        if start.startswith(mark):
            return f"is {reason}"
    return f"is not a whole .safetensors file ({error}); download it again"
