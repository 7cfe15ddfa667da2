"""What a source finds: photographs that survey will look at, and records that cannot be used."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Found:
    """A photograph that has not been looked at yet; fields as of `records.Record`; "" is a missing caption."""

    name: str
    caption: str
    file: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used.

    Attributes:
        kind: what rejects are counted by.
        reason: one line, to be read after the name.
    """

    name: str
    kind: str
    reason: str


def no_image(name: str) -> Reject:
    """The reject of a caption whose image is not there."""
    return Reject(name, "caption without image", "has a caption, but there is no image of that name")


def wrong_caption(name: str, error: ValueError | OSError) -> Reject:
    """The reject of an image whose caption cannot be read."""
    return Reject(name, "wrong caption", f"its caption cannot be used: {' '.join(str(error).split())}")


def twice(name: str) -> Reject:
    """The reject of whatever has a name that another one has already."""
    return Reject(name, "duplicate name", "comes more than once; the first is used")


def caption_from(value: object) -> str:
    """A caption out of JSON: text, or a list of texts, which become alternatives, one a line; null is "".

    Raises:
        ValueError: a value of another type.
    """
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"it is {json.dumps(value, ensure_ascii=False, default=str)[:60]}, no text or list of texts")
    return "\n".join(line for text in texts if (line := " ".join(text.split())))


def caption_in(data: bytes) -> str:
    """The caption of a .txt file: UTF-8, with or without byte order mark; line breaks become spaces.

    Raises:
        ValueError: it is not UTF-8.
    """
    return " ".join(data.decode("utf-8-sig").split())


def read_captions(path: Path, expected: str, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The JSON of a caption file.

    Args:
        expected: its shape in words, for errors.
        hook: makes an object of its pairs; by default a dict.

    Raises:
        DataError: the file cannot be read or is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=hook)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}; expected {expected}") from error


def nfc(name: str) -> str:
    """The name in one Unicode form: file systems and caption files write the same letters differently."""
    return unicodedata.normalize("NFC", name)
