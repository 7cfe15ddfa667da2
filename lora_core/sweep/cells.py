"""The folders of cells: which pictures of the test photographs are there. Imports no torch.

A folder has one PNG a photograph, each whole or absent, and `cell.json`, written after them, which lists those that
are done with their digests. A race leaves cells with the first photographs alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lora_core.data.pairs import Pair
from lora_core.files import file_digest, finished_files, read_json, write_json
from lora_core.images import centre_crop, read_rgb, write_png
from lora_core.workspace import StudyFolder

_TALLY = ".painted"
"""A byte for each picture."""


def finished(study: StudyFolder, cell_id: str, names: Sequence[str]) -> bool:
    """Whether the cell's manifest lists these photographs and their pictures are there."""
    return set(names) <= known_photos(study, cell_id).keys() and all(
        picture_path(study, cell_id, name).exists() for name in names
    )


def known_photos(study: StudyFolder, cell_id: str) -> dict[str, str]:
    """sha256 of each picture that the manifest lists, by name of the photograph."""
    manifest = study.cells / cell_id / "cell.json"
    photos: dict[str, str] = read_json(manifest)["photos"] if manifest.exists() else {}
    return photos


def picture_path(study: StudyFolder, cell_id: str, name: str) -> Path:
    """The picture of one photograph."""
    return study.cells / cell_id / f"{name}.png"


def picture_count(study: StudyFolder) -> int:
    """All pictures of all cells and references that are there, whole."""
    return sum(len(finished_files(folder, ".png")) for folder in study.cells.glob("*"))


def painted(own: Path) -> int:
    """Pictures that the process of this folder has ever put in place; the cells fill with what others make too."""
    return tally.stat().st_size if (tally := own / _TALLY).exists() else 0


def put_picture(path: Path, picture: np.ndarray, own: Path) -> None:
    """Puts a picture, (height, width, 3) uint8, in place, and counts it for the process of the folder `own`."""
    write_png(path, picture)
    with (own / _TALLY).open("ab") as tally:
        tally.write(b".")


def write_manifest(study: StudyFolder, row: dict[str, Any], names: Sequence[str]) -> None:
    """Adds photographs to the manifest of a cell or reference; their pictures are on the disk."""
    digests = {name: file_digest(picture_path(study, row["id"], name)) for name in names}
    with FileLock(study.cells / ".lock"):  # rounds that run at the same time share the base's cells
        photos = known_photos(study, row["id"]) | digests
        write_json(study.cells / row["id"] / "cell.json", {**row, "photos": dict(sorted(photos.items()))})


def write_compared(study: StudyFolder, pairs: list[Pair], size: int | None) -> None:
    """Writes what every score compares with: `test/original/` and `test/degraded/`, centre-cropped to `size`."""
    for pair in pairs:
        for half, source in (("original", pair.clean), ("degraded", pair.degraded)):
            target = study.root / "test" / half / f"{pair.name}.png"
            picture = centre_crop(read_rgb(source), size)
            if not target.exists() or not np.array_equal(read_rgb(target), picture):
                write_png(target, picture)
