"""Import of samples into shards, so that training reads every source by seeking in plain files."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from lora_core.files import read_json, write_json, write_with
from lora_core.images import encode_image, read_rgb_bytes

IMAGES_A_SHARD = 1000
Sample = tuple[bytes | None, Any]
"""The bytes of an image file, and the caption as JSON; either may be missing."""
_AS_THEY_ARE = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


def imported(folder: Path, origin: dict[str, Any], samples: Callable[[int], Iterator[Sample]]) -> Iterator[Path]:
    """Shards of 1,000 samples: first those that are there already, then new ones as they are asked for.

    Args:
        folder: of these shards alone; emptied where it holds those of another origin.
        origin: everything that decides the samples, as JSON.
        samples: gives the samples from a number on, so that a killed import goes on where it was.

    Raises:
        ResourceError: the folder cannot be written.
    """
    known = folder / "origin.json"
    if not known.exists() or read_json(known) != origin:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(known, origin)
    number = 0
    while _shard(folder, number).exists():
        yield _shard(folder, number)
        number += 1
    if (folder / "done.json").exists():
        return
    rest = samples(number * IMAGES_A_SHARD)
    while chunk := list(islice(rest, IMAGES_A_SHARD)):
        _write_shard(_shard(folder, number), number * IMAGES_A_SHARD, chunk)
        yield _shard(folder, number)
        number += 1
    write_json(folder / "done.json", {"shards": number})


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.tar"


def _write_shard(path: Path, first: int, chunk: list[Sample]) -> None:
    def write(file: Path) -> None:
        with tarfile.open(file, "w:") as tar:
            for number, (image, caption) in enumerate(chunk, first):
                if image is not None:
                    suffix, data = _stored(image)
                    _add(tar, f"{number:09d}{suffix}", data)
                text = json.dumps({"caption": caption}, ensure_ascii=True, default=str)
                _add(tar, f"{number:09d}.json", text.encode())

    write_with(path, write)


def _stored(data: bytes) -> tuple[str, bytes]:
    """Suffix and bytes to store: PNG of what is no JPEG, PNG or WebP, and unchanged what cannot be decoded.

    The survey rejects that by name.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            suffix = _AS_THEY_ARE.get(image.format or "")
        return (suffix, data) if suffix else (".png", encode_image(read_rgb_bytes(data, "image"), ".png"))
    except Exception:  # decoders raise many kinds
        return ".jpg", data


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
