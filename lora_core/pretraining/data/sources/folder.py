"""A folder of images with captions in one captions.json, or in a .txt beside each image."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from lora_core.errors import DataError
from lora_core.pretraining.data.sources.entry import (
    Found,
    Reject,
    caption_from,
    caption_in,
    nfc,
    no_image,
    read_captions,
    twice,
    wrong_caption,
)
from lora_core.pretraining.data.sources.listing import Listed, files_of, images_in_order
from lora_core.pretraining.recipe import DataSection

_EXPECTED = '{"image1.jpg": "a cat", "image2.jpg": ["a dog", "a brown dog"]}'


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """The images of `images/`, or of the folder itself, sub-folders included, then captions without image.

    Where there is a captions.json, it is used and .txt files are not. Names are compared in Unicode form NFC.

    Raises:
        DataError: captions.json is not an object of texts and lists of texts.
    """
    root = Path(section.path)
    place = root / "images" if (root / "images").is_dir() else root
    files = list(files_of(place))
    captions: dict[str, Any] = {}
    table, key_of = root / "captions.json", nfc
    read: Callable[[Any], str] = caption_from
    if table.is_file():
        for name, value in _pairs(table):
            if nfc(name) in captions:
                yield twice(name)
            captions.setdefault(nfc(name), value)
    else:
        key_of, read = _stem, _read_text
        captions = {_stem(file.name): place / file.name for file in files if file.suffix == ".txt"}
    used = set()
    for image in images_in_order(files, section, seed):
        used.add(key_of(image.name))
        yield _entry(place, image, captions.get(key_of(image.name)), read)
    for key, value in captions.items():
        if key not in used:
            yield no_image(value.name if isinstance(value, Path) else key)


def _entry(place: Path, image: Listed, value: Any, read: Callable[[Any], str]) -> Found | Reject:
    try:
        caption = "" if value is None else read(value)
    except (ValueError, OSError) as error:
        return wrong_caption(image.name, error)
    return Found(image.name, caption, place / image.name, 0, image.size)


def _pairs(table: Path) -> list[tuple[str, Any]]:
    """Name and value, doubled names too, which a dict would drop."""
    value = read_captions(table, _EXPECTED, _Object)
    if not isinstance(value, _Object):
        raise DataError(f"{table} holds {type(value).__name__} instead of an object; expected {_EXPECTED}")
    return value.pairs


class _Object(dict[str, Any]):
    """A JSON object that remembers how it was written."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.pairs = pairs


def _stem(name: str) -> str:
    return nfc(str(PurePosixPath(name).with_suffix("")))


def _read_text(path: Path) -> str:
    return caption_in(path.read_bytes())
