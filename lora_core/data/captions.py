"""Captions of the photographs of a folder, which lie beside them. Imports no torch.

    photo.txt, photo.caption    the caption of photo.jpg: one line of UTF-8
    captions.json               {"photo.jpg": "…", "other": "…"}, by file name or by file name without suffix; or a
                                list of {"file": "photo.jpg", "caption": "…"}
    metadata.jsonl              one {"file_name": "photo.jpg", "text": "…"} a line, as Hugging Face has it

In both JSON files a record's keys may be `file`, `file_name` or `image`, and `caption` or `text`; other keys are no
captions. A photograph has one caption. kohya trains on the first line of a file and drops the others in silence, other
tools draw one of them; so that nothing is dropped or guessed, a second line, a list of several captions, a key that
stands twice and sources that contradict each other are errors here, and so is a caption without its photograph.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.images import stem

_ENDINGS = (".txt", ".caption")
_LISTS = ("captions.json", "metadata.jsonl")
_FILE_KEYS, _TEXT_KEYS = ("file", "file_name", "image"), ("caption", "text")


def caption_files(folder: Path) -> list[str]:
    """Names of the files in a folder that hold captions, in name order."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return sorted(name for name in names if name in _LISTS or name.lower().endswith(_ENDINGS))


def read_captions(folder: Path, photos: Sequence[str]) -> dict[str, str]:
    """The captions that a folder holds.

    Args:
        folder: of photographs.
        photos: their file names.

    Returns:
        File name to caption, of those that have one; stripped, never empty, one line.

    Raises:
        DataError: a file that cannot be read as what its name says, an empty caption, several for one photograph, one
            without its photograph.
    """
    by_stem = {stem(name): name for name in photos}
    known = set(photos)
    captions: dict[str, str] = {}
    sources: dict[str, str] = {}
    for file in caption_files(folder):
        for place, key, text in _entries(folder / file):
            name = key if key in known else by_stem.get(key)
            if name is None:
                raise DataError(f"{place}: no photograph '{key}' in {folder}; correct the name or remove the caption")
            caption = _one_line(text, place)
            if captions.setdefault(name, caption) != caption:
                raise DataError(
                    f"{place}: the caption of {name} is '{caption}', but {sources[name]} says '{captions[name]}'; "
                    "remove one"
                )
            sources.setdefault(name, place if file in _LISTS else file)
    return captions


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(place for errors, file name or stem, caption) of each caption in a file."""
    text = _read(path)
    if path.name == "captions.json":
        yield from _json_entries(path, _parse(text, str(path)))
    elif path.name == "metadata.jsonl":
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
            if line.strip():
                place = f"{path}, line {number}"
                yield place, *_record(_parse(line, place, number), place)
    else:
        yield str(path), path.stem, text


def _read(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + 3 * data.startswith(b"\xef\xbb\xbf")
        raise DataError(f"{path}: byte {at} (0x{data[at]:02x}) is no UTF-8; save the file as UTF-8") from error


def _parse(text: str, place: str, line: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _without_repetition(pairs, place))
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if line else f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{place}: no JSON, {where}: {error.msg}; correct or remove it") from error
    except RecursionError as error:
        raise DataError(f"{place}: no JSON of captions, it is nested too deep; correct or remove it") from error


def _without_repetition(pairs: list[tuple[str, Any]], place: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"{place}: the key '{twice}' stands twice; remove one")
    return found


def _json_entries(path: Path, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for key, text in value.items():
            yield f"{path}, '{key}'", key, text
    elif isinstance(value, list):
        for number, record in enumerate(value, 1):
            place = f"{path}, record {number}"
            yield place, *_record(record, place)
    else:
        raise DataError(f'{path}: neither {{"photo": "caption"}} nor a list of records; write one of these')


def _record(record: Any, place: str) -> tuple[str, Any]:
    if not isinstance(record, dict):
        raise DataError(f'{place}: no record; write {{"file_name": "photo.jpg", "text": "caption"}}')
    name = _only(record, _FILE_KEYS, place)
    if not isinstance(name, str):
        raise DataError(f"{place}: the file name is {json.dumps(name)}; write it in quotation marks")
    return name, _only(record, _TEXT_KEYS, place)


def _only(record: dict[str, Any], keys: tuple[str, ...], place: str) -> Any:
    """The value that a record has under one of several keys."""
    values = [record[key] for key in keys if key in record]
    if not values:
        raise DataError(f"{place}: none of the keys {', '.join(keys)}; name the photograph and its caption")
    if any(value != values[0] for value in values):
        raise DataError(f"{place}: several of the keys {', '.join(keys)} with different values; keep one")
    return values[0]


def _one_line(value: Any, place: str) -> str:
    if isinstance(value, list):
        if len(value) > 1:
            raise DataError(f"{place}: {len(value)} captions for one photograph; keep one, or join them to one line")
        value = value[0] if value else ""
    if not isinstance(value, str):
        raise DataError(f"{place}: the caption is {json.dumps(value)}, no text; write it in quotation marks")
    lines = [line for part in re.split(r"\r\n|\r|\n", value) if (line := part.strip())]
    if not lines:
        raise DataError(f"{place}: the caption is empty; write one, or remove it (data.missing_caption says what then)")
    if len(lines) > 1:
        raise DataError(f"{place}: {len(lines)} lines; a caption is one line, so keep one or join them")
    if "\0" in lines[0]:
        raise DataError(f"{place}: the caption holds a zero byte; save the file as UTF-8")
    return lines[0]
