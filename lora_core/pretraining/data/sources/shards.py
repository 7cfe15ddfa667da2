"""WebDataset shards, as img2dataset writes them: plain .tar files in which a sample is the members of one key.

Only headers and captions are read; of an image its place in the shard is noted, so that training seeks to it.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lora_core.errors import DataError
from lora_core.images import SUFFIXES
from lora_core.pretraining.data.sources.entry import (
    Found,
    Reject,
    caption_from,
    caption_in,
    no_image,
    twice,
    wrong_caption,
)
from lora_core.pretraining.recipe import DataSection

_COMPRESSED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_GZIP = b"\x1f\x8b"
_NO_PLACE = (0, 0)


@dataclass
class _Sample:
    """Members of one key: (first byte, bytes) of the image, captions by suffix, and what is wrong with it."""

    image: tuple[int, int] = _NO_PLACE
    captions: dict[str, bytes] = field(default_factory=dict)
    cut: str = ""


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """The samples of a folder's shards in name order, or of one shard.

    Raises:
        DataError: there is no shard, or one is compressed.
    """
    root = Path(section.path)
    shards = [root] if root.is_file() else sorted(root.glob("*.tar"))
    compressed = [path for path in (shards if root.is_file() else root.iterdir()) if path.name.endswith(_COMPRESSED)]
    if compressed:
        raise _compressed(sorted(compressed)[0])
    if not shards:
        raise DataError(f"{root} holds no .tar shard; set data.path to the folder that holds them, or to one shard")
    for shard in shards:
        yield from shard_entries(shard)


def shard_entries(shard: Path) -> Iterator[Found | Reject]:
    """The samples of one shard in its order; everything before a break is used, the break is one reject.

    Raises:
        DataError: the shard is compressed.
    """
    samples: dict[str, _Sample] = {}
    rejects: list[Reject] = []
    try:
        with shard.open("rb") as handle:
            if handle.read(2) == _GZIP:
                raise _compressed(shard)
            handle.seek(0)
            rejects.extend(_collect(shard.name, handle, samples))
    except OSError as error:
        rejects.append(Reject(shard.name, "broken shard", f"cannot be read: {error.strerror or error}"))
    for key, sample in samples.items():
        yield _entry(shard, key, sample)
    yield from rejects


def _compressed(shard: Path) -> DataError:
    return DataError(f"{shard} is compressed, and training seeks inside shards; unpack it to a plain .tar, e.g. gunzip")


def _collect(shard: str, handle: BinaryIO, samples: dict[str, _Sample]) -> Iterator[Reject]:
    """Notes every member with its sample; yields what belongs to none."""
    end, last = os.fstat(handle.fileno()).st_size, "its beginning"
    try:
        tar = tarfile.TarFile(fileobj=handle)
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # it keeps a list of all, and a shard may hold millions
            last = member.name
            path = PurePosixPath(member.name)
            if member.isdir() or path.name.startswith("."):
                continue
            key, _, suffix = path.name.partition(".")
            sample = samples.setdefault(str(path.with_name(key)) if key else str(path), _Sample())
            if not member.isreg() or member.offset_data + member.size > end:
                sample.cut = f"its member {member.name} is " + ("cut off" if member.isreg() else "no plain file")
            elif not _note(sample, f".{suffix}".lower(), member, handle):
                yield twice(f"{shard}/{member.name}")
        # tarfile takes a broken header for the end; a whole archive ends with a block of zeros.
        handle.seek(tar.offset)
        if any(block := handle.read(tarfile.BLOCKSIZE)) or not block:
            yield Reject(shard, "broken shard", f"is cut off or broken after {last}; what comes behind it is lost")
    except tarfile.TarError as error:
        yield Reject(
            shard, "broken shard", f"is cut off or broken after {last} ({error}); what comes behind it is lost"
        )


def _note(sample: _Sample, suffix: str, member: tarfile.TarInfo, handle: BinaryIO) -> bool:
    """Adds a member to its sample; False where the sample has one of that kind already."""
    if suffix in SUFFIXES:
        if sample.image != _NO_PLACE:
            return False
        sample.image = (member.offset_data, member.size)
    elif suffix in (".txt", ".json"):
        if suffix in sample.captions:
            return False
        handle.seek(member.offset_data)
        sample.captions[suffix] = handle.read(member.size)
    return True


def _entry(shard: Path, key: str, sample: _Sample) -> Found | Reject:
    name = f"{shard.name}/{key}"
    if sample.cut:
        return Reject(name, "broken shard", sample.cut)
    if sample.image == _NO_PLACE:
        return no_image(name) if sample.captions else Reject(name, "no image", "has neither image nor caption")
    try:
        return Found(name, _caption(sample.captions), shard, *sample.image)
    except ValueError as error:
        return wrong_caption(name, error)


def _caption(captions: dict[str, bytes]) -> str:
    """That of the .txt, else "caption" of the .json. Raises ValueError where it is none."""
    text = caption_in(captions.get(".txt", b""))
    if text or ".json" not in captions:
        return text
    value = json.loads(captions[".json"])
    if not isinstance(value, dict):
        raise ValueError('its .json is no object with a "caption"')
    return caption_from(value.get("caption"))
