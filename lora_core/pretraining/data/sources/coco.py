"""The official COCO folders: a folder of images and the captions_*.json of the same set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.pretraining.data.sources.entry import (
    Found,
    Reject,
    caption_from,
    nfc,
    no_image,
    read_captions,
    twice,
    wrong_caption,
)
from lora_core.pretraining.data.sources.listing import files_of, images_in_order
from lora_core.pretraining.recipe import DataSection

_EXPECTED = (
    'captions_*.json: {"images": [{"id": 1, "file_name": "1.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "a cat"}]}'
)


def annotations_of(section: DataSection) -> Path:
    """The file of captions: the one named, or where COCO's own layout has it."""
    if section.annotations:
        return Path(section.annotations)
    root = Path(section.path).absolute()
    return root.parent / "annotations" / f"captions_{root.name}.json"


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """The images of the folder, each with all its captions as alternatives, then captions without image.

    Raises:
        DataError: the annotations are missing or are not COCO's captions.
    """
    root, path = Path(section.path), annotations_of(section)
    images, annotations = _tables(path)
    names: dict[Any, str] = {}
    captions: dict[str, list[Any]] = {}
    for number, image in enumerate(images):
        identity, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(identity, int | str) or not isinstance(name, str):
            yield Reject(f"{path.name} images[{number}]", "wrong caption", "has no id and file_name")
        elif identity in names or nfc(name) in captions:
            yield twice(f"{path.name} {name}")
        else:
            names[identity] = nfc(name)
            captions[nfc(name)] = []
    for number, annotation in enumerate(annotations):
        identity = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(identity, int | str) or identity not in names:
            yield no_image(f"{path.name} annotations[{number}]")
        else:
            captions[names[identity]].append(annotation.get("caption"))
    used = set()
    for file in images_in_order(list(files_of(root)), section, seed):
        used.add(nfc(file.name))
        try:
            caption = caption_from(captions.get(nfc(file.name)))
        except ValueError as error:
            yield wrong_caption(file.name, error)
        else:
            yield Found(file.name, caption, root / file.name, 0, file.size)
    yield from (no_image(name) for name in captions if name not in used)


def _tables(path: Path) -> tuple[list[Any], list[Any]]:
    value = read_captions(path, _EXPECTED)
    images, annotations = (value.get(key) if isinstance(value, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(f"{path} has no lists of images and annotations; expected {_EXPECTED}")
    if annotations and not any(isinstance(row, dict) and "caption" in row for row in annotations):
        raise DataError(f"{path} has no captions; set data.annotations to a {_EXPECTED}")
    return images, annotations
