"""Pickled weights can run code when they are opened as such: torch's restricted unpickler alone reads them here."""

from pathlib import Path

from lora_core.errors import BaseModelError

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


def pickled_keys(path: Path) -> list[str]:
    """The tensor names in a pickled checkpoint; the tensors themselves are not read.

    Raises:
        BaseModelError: the file is damaged, or holds anything but tensors and plain values.
    """
    import torch

    try:
        values = torch.load(path, map_location="meta", weights_only=True)
        values = values.get("state_dict", values)
        return [str(key) for key in values]
    except Exception as error:  # torch.load has no base class for what a strange file makes it raise
        reason = " ".join(str(error).split())[:200]
        raise BaseModelError(
            f"base.model: {path} is not a checkpoint of weights alone ({reason}); convert it to .safetensors with a "
            "tool that you trust"
        ) from error
