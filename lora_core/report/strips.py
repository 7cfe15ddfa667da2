"""Pictures made while the best round trained: each photograph from the degraded one, checkpoint by checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_core.images import read_rgb
from lora_core.report.data import StudyData
from lora_core.report.pictures import data_uri

_SIDE = 160
_PHOTOS, _EPOCHS = 4, 6


@dataclass(frozen=True)
class Strips:
    """Rows of pictures.

    Attributes:
        heads: of the columns: "degraded", the epochs, "original"; prompts have neither of the outer ones.
        rows: a name and its pictures as data URIs, None where there is none.
    """

    heads: list[str]
    rows: list[tuple[str, list[str | None]]]


def strips(study: StudyData) -> Strips | None:
    """The pictures of the best round, at most six checkpoints; None where it made none."""
    folders = sorted(study.best.folder.samples.glob("epoch-*"))
    if not folders:
        return None
    chosen = _spread(folders, _EPOCHS)
    names = sorted({path.stem for folder in chosen for path in folder.glob("*.png")})
    photos = [name for name in names if not name.startswith("prompt-")][:_PHOTOS]
    prompts = [name for name in names if name.startswith("prompt-")]
    test = study.folder.root / "test"
    rows = [
        (
            name,
            [_shown(test / "degraded" / f"{name}.png"), *_row(chosen, name), _shown(test / "original" / f"{name}.png")],
        )
        for name in photos
    ]
    texts = dict(zip(prompts, study.best.experiment.monitoring.prompts, strict=False))
    rows += [(texts.get(name, name), [None, *_row(chosen, name), None]) for name in prompts]
    return Strips(["degraded", *(f"epoch {int(folder.name.split('-')[1])}" for folder in chosen), "original"], rows)


def _row(folders: Sequence[Path], name: str) -> list[str | None]:
    return [_shown(folder / f"{name}.png") for folder in folders]


def _shown(path: Path) -> str | None:
    return data_uri(_middle(read_rgb(path))) if path.exists() else None


def _middle(rgb: np.ndarray) -> np.ndarray:
    """The centre at full resolution, where restoration shows."""
    top, left = (max(0, length - _SIDE) // 2 for length in rgb.shape[:2])
    return rgb[top : top + _SIDE, left : left + _SIDE]


def _spread(folders: Sequence[Path], limit: int) -> list[Path]:
    """At most `limit` of them, evenly apart, the last one among them."""
    if len(folders) <= limit:
        return list(folders)
    return [folders[round(step * (len(folders) - 1) / (limit - 1))] for step in range(limit)]
