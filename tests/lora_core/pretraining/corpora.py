"""Small sets of photographs with captions in every layout; each image can be told from the others by its colours."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lora_core.pretraining.recipe import Recipe, recipe_from

SIDE = 64


def image(number: int, width: int = 80, height: int = SIDE, kind: str = "JPEG") -> bytes:
    """An encoded picture that is a function of the number."""
    rgb = np.random.default_rng(number).integers(0, 256, (8, 10, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(rgb).resize((width, height)).save(data, kind)
    return data.getvalue()


def recipe(source: str, path: Path | str = "", **data: Any) -> Recipe:
    """A recipe for 64-pixel images, half of them to train on, that allows every reject."""
    values = {"image_size": SIDE, "train_split": 0.5, "reject_limit": 1.0} | data
    return recipe_from({"seed": 0, "data": {"source": source, "path": str(path), **values}}, "test")


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Writes files by relative name."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_shard(path: Path, members: dict[str, bytes | str]) -> Path:
    """Writes a plain .tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples(first: int, count: int) -> dict[str, bytes | str]:
    """Members of `count` samples: image and caption."""
    members: dict[str, bytes | str] = {}
    for number in range(first, first + count):
        members[f"{number:06d}.jpg"] = image(number)
        members[f"{number:06d}.txt"] = f"picture {number}"
    return members
