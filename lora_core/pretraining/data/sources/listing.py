"""Files of a source in a stable order, and a cheap signature of them."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lora_core.errors import DataError
from lora_core.images import SUFFIXES
from lora_core.pretraining.recipe import DataSection
from lora_core.randomness import seed_for


@dataclass(frozen=True, slots=True)
class Listed:
    """A file: its name relative to the folder with "/", bytes, and time of change in nanoseconds."""

    name: str
    size: int
    changed: int

    @property
    def suffix(self) -> str:
        """In small letters, with the dot."""
        return PurePosixPath(self.name).suffix.lower()


def files_of(root: Path, below: str = "") -> Iterator[Listed]:
    """Every file of a folder and its sub-folders in name order; hidden ones are not listed.

    Raises:
        DataError: a folder cannot be read.
    """
    try:
        with os.scandir(root) as scan:
            entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {root}: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_dir():
            yield from files_of(root / entry.name, f"{below}{entry.name}/")
        else:
            try:
                status = entry.stat()
            except OSError:  # a link to nothing: listed, so that it is rejected by name where it is opened
                yield Listed(below + entry.name, 0, 0)
            else:
                yield Listed(below + entry.name, status.st_size, status.st_mtime_ns)


def images_in_order(files: list[Listed], section: DataSection, seed: int) -> list[Listed]:
    """The images among the files, in name order; where only `num_samples` are wanted in an order that looks random.

    The first of a sorted folder would be the first letters of the alphabet alone.
    """
    images = [file for file in files if file.suffix in SUFFIXES]
    if section.num_samples is None:
        return images
    return sorted(images, key=lambda file: seed_for("samples", seed, os.fsencode(file.name).hex()))


def signature(paths: list[Path]) -> str:
    """sha256 over names, sizes and times of change of files, or of all files in folders; what is missing counts too."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_dir():
            for file in files_of(path):
                digest.update(f"{file.name!a} {file.size} {file.changed}\n".encode())
        elif path.is_file():
            status = path.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()
