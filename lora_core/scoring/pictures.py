"""The pictures of a study: what was restored, what it is compared with, and the bytes of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_core import metrics
from lora_core.errors import DataError
from lora_core.files import file_digest
from lora_core.images import read_rgb
from lora_core.workspace import StudyFolder


@dataclass(frozen=True)
class Originals:
    """The test photographs that every cell is compared with.

    Attributes:
        folder: where they lie, as PNG.
        digests: sha256 of each, by name without suffix, in the order of the test.
    """

    folder: Path
    digests: dict[str, str]

    @classmethod
    def of(cls, study: StudyFolder, names: Sequence[str]) -> "Originals":
        """The originals of a study. Raises DataError where one is missing."""
        folder = study.root / "test" / "original"
        return cls(folder, {name: digest(folder / f"{name}.png") for name in names})

    def path(self, name: str) -> Path:
        """The file of a photograph."""
        return self.folder / f"{name}.png"


def digest(path: Path) -> str:
    """sha256 of a picture's bytes, restored or original. Raises DataError where it is missing."""
    try:
        return file_digest(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}{sweep_again(path.parent)}") from error


def sweep_again(folder: Path) -> str:
    """The way out where the sweep's pictures are not as the sweep left them: it makes again only what is not there."""
    return f"; delete {folder} and the round's sweep.json, and run the sweep again: photo-enhancer sweep"


def read_pair(restored: Path, original: Path, way_out: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A restored picture and its original, (h, w, 3) uint8 each.

    Raises:
        DataError: one cannot be read, or their sizes differ; `way_out` ends the message.
    """
    try:
        first, second = read_rgb(restored), read_rgb(original)
    except DataError as error:
        raise DataError(f"{error}{way_out}") from error
    try:
        metrics.require_pair(first, second)
    except DataError as error:
        raise DataError(f"{restored} against {original}: {error}{way_out}") from error
    return first, second
