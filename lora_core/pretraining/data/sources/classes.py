"""Images that are named after what they show, or lie in folders that are."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lora_core.pretraining.data.sources.entry import Found, Reject
from lora_core.pretraining.data.sources.listing import files_of, images_in_order
from lora_core.pretraining.recipe import DataSection


def caption_of(name: str) -> str:
    """The caption of a class-named file: `Afghan_hound` becomes `a photo of Afghan hound`; a number says nothing."""
    words = name.replace("_", " ").strip()
    return "a photo" if words.isdigit() else f"a photo of {words}"


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """Of an image directly in the folder its own name is the class, in a sub-folder the sub-folder's."""
    root = Path(section.path)
    for image in images_in_order(list(files_of(root)), section, seed):
        path = PurePosixPath(image.name)
        yield Found(image.name, caption_of(path.parent.name or path.stem), root / image.name, 0, image.size)
