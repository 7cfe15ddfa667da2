"""A clean photograph and its degraded twin, and the digest of many.

A data set may have 100,000 pairs, so a pair keeps its paths as text, which takes a quarter of the memory of paths.
Imports no torch.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lora_core.data.digests import DigestStore
from lora_core.files import value_digest
from lora_core.workspace import Workspace


@dataclass(frozen=True, slots=True, init=False)
class Pair:
    """A clean photograph and its degraded twin.

    Attributes:
        name: file name without suffix, unique in its set.
        repeats: how often an epoch visits the pair.
        caption: what the photograph shows; where data.captions=prompt it is empty and the prompt holds for all.
        clean_file: path of the clean photograph, as text.
        degraded_file: path of its twin; the clean photograph itself where it has none, as regularisation images.
        mask_file: path of the file that holds its mask, if any: the clean photograph itself for an alpha channel.
    """

    name: str
    repeats: int
    caption: str
    clean_file: str
    degraded_file: str
    mask_file: str | None

    def __init__(
        self,
        name: str,
        clean: Path | str,
        degraded: Path | str,
        repeats: int = 1,
        caption: str = "",
        mask: Path | str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "repeats", repeats)
        put(self, "caption", caption)
        put(self, "clean_file", os.fspath(clean))
        put(self, "degraded_file", self.clean_file if degraded == clean else os.fspath(degraded))
        put(self, "mask_file", None if mask is None else os.fspath(mask))

    @property
    def clean(self) -> Path:
        """The clean photograph."""
        return Path(self.clean_file)

    @property
    def degraded(self) -> Path:
        """Its degraded twin."""
        return Path(self.degraded_file)

    @property
    def mask(self) -> Path | None:
        """The file that holds its mask."""
        return None if self.mask_file is None else Path(self.mask_file)

    @property
    def plain(self) -> bool:
        """Whether there is no degraded half."""
        return self.degraded_file == self.clean_file


def pairs_digest(pairs: Sequence[Pair], workspace: Workspace | None = None) -> str:
    """sha256 over names, repeats, captions and the bytes of both halves and of the masks.

    Args:
        pairs: the pairs.
        workspace: whose store of digests is used; without it every file is read.

    Raises:
        DataError: a file cannot be read.
    """
    return _digest(pairs, workspace, words=True)


def pixels_digest(pairs: Sequence[Pair], workspace: Workspace | None = None) -> str:
    """As `pairs_digest`, over what decides the pixels alone: names and bytes."""
    return _digest(pairs, workspace, words=False)


def _digest(pairs: Sequence[Pair], workspace: Workspace | None, words: bool) -> str:
    store = DigestStore(workspace)
    columns = [store.digests([pair.clean_file for pair in pairs])]
    columns.append(store.digests([pair.degraded_file for pair in pairs if not pair.plain]))
    columns.append(store.digests([pair.mask_file for pair in pairs if pair.mask_file not in (None, pair.clean_file)]))
    clean, degraded, masks = columns
    whole = sha256()
    for pair in pairs:
        first = next(clean)
        second = first if pair.plain else next(degraded)
        third = pair.mask_file and (first if pair.mask_file == pair.clean_file else next(masks))
        said = [pair.repeats, pair.caption] if words else []
        whole.update(value_digest([pair.name, first, second, third, *said]).encode())
    return whole.hexdigest()
