"""The winner beside its rivals where they differ most, and where it fails: pictures with their numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lora_core.images import read_rgb
from lora_core.report.data import Row, StudyData
from lora_core.report.pictures import data_uri
from lora_core.report.words import differing, inference_phrase, telling_phrase

SIDE = 256
CONTESTS, FAILURES = 4, 4
Where = Callable[[np.ndarray, np.ndarray, list[np.ndarray]], np.ndarray]
"""From (height, width, 3) uint8 pictures, the degraded, the original, the restored ones, to a weight for each pixel."""


@dataclass(frozen=True)
class Contender:
    """Whose picture is shown.

    Attributes:
        note: what tells its settings from the others'.
        says: all of its settings.
        folder: of its pictures.
    """

    name: str
    note: str
    says: str
    id: str
    folder: Path


@dataclass(frozen=True)
class Entry:
    """One picture with its numbers; `scores` is None for the original."""

    name: str
    note: str
    says: str
    kind: str
    source: str
    scores: Row | None


@dataclass(frozen=True)
class Contest:
    """One photograph in several restorations.

    Attributes:
        low, high: the lowest and highest composite among the restorations, points.
        width, height: pixels of the part that is shown.
        cropped: it is a part only.
    """

    photo: str
    low: float
    high: float
    width: int
    height: int
    cropped: bool
    entries: list[Entry]


@dataclass(frozen=True)
class Failures:
    """Where the winner does worst.

    Attributes:
        lost: photographs that it makes worse than the input.
        photos: all of them.
        shown: the worst first; where none is lost, the one with the smallest gain.
    """

    lost: int
    photos: int
    shown: list[Contest]


def contenders(study: StudyData) -> list[Contender]:
    """The winner, the best of the other checkpoints and of its own other settings, the best base and filter."""
    winner, cells = study.winner, study.folder.cells
    lora = [row for row in study.running if row["kind"] == "lora" and row["id"] != winner["id"]]
    checkpoint = next((row for row in lora if row["epoch"] != winner["epoch"]), None)
    setting = next((row for row in lora if row["epoch"] == winner["epoch"]), None)
    result = study.best.result
    rows = [
        ("Best LoRA", winner),
        ("Next checkpoint", checkpoint),
        ("Next setting", setting),
        ("Base model", result["base"]),
        ("Classical filter", result["classical"]),
    ]
    varied = differing([row for _, row in rows[:3] if row])
    return [
        Contender(name, telling_phrase(row, varied), _all_settings(row), row["id"], cells / row["id"])
        for name, row in rows
        if row
    ]


def _all_settings(row: Row) -> str:
    return str(row["name"]) if row["kind"] == "reference" else inference_phrase(row)


def contests(study: StudyData) -> list[Contest]:
    """The photographs on which the composites of the contenders lie furthest apart, the furthest first."""
    rivals = [one for one in contenders(study) if study.points(one.id)]
    if len(rivals) < 2:
        return []
    points = {one.id: study.points(one.id) for one in rivals}
    photos = [photo for photo in points[rivals[0].id] if all(photo in of_cell for of_cell in points.values())]
    spread = {photo: [of_cell[photo] for of_cell in points.values()] for photo in photos}
    order = sorted(photos, key=lambda photo: (min(spread[photo]) - max(spread[photo]), photo))
    shown = [photo for photo in order if _all_there(study, photo, rivals)][:CONTESTS]
    return [_contest(study, photo, rivals, _where_they_differ) for photo in shown]


def failures(study: StudyData) -> Failures | None:
    """The photographs that the winner makes worse, the worst first; None without composites by photograph."""
    points = study.points(study.winner["id"])
    if not points:
        return None
    winner = contenders(study)[:1]
    order = sorted(points, key=lambda photo: (points[photo], photo))
    lost = sum(value < 0 for value in points.values())
    there = [photo for photo in order if _all_there(study, photo, winner)]
    shown = [photo for photo in there if points[photo] < 0][:FAILURES] or there[:1]
    return Failures(lost, len(points), [_contest(study, photo, winner, _where_it_fails) for photo in shown])


def _all_there(study: StudyData, photo: str, shown: Sequence[Contender]) -> bool:
    test = study.folder.root / "test"
    folders = (test / "degraded", test / "original", *(one.folder for one in shown))
    return all((folder / f"{photo}.png").is_file() for folder in folders)


def _contest(study: StudyData, photo: str, shown: Sequence[Contender], where: Where) -> Contest:
    test = study.folder.root / "test"
    degraded, original = (read_rgb(test / half / f"{photo}.png") for half in ("degraded", "original"))
    restored = [read_rgb(one.folder / f"{photo}.png") for one in shown]
    top, left = _window(where(degraded, original, restored))

    def part(rgb: np.ndarray) -> str:
        return data_uri(rgb[top : top + SIDE, left : left + SIDE])

    source = study.by_photo.get(study.best.result["input"]["id"], {}).get(photo)
    entries = [Entry("Degraded", "the input", "the degraded input", "input", part(degraded), source)]
    entries += [
        Entry(one.name, one.note, one.says, "winner" if at == 0 else "rival", part(rgb), study.by_photo[one.id][photo])
        for at, (one, rgb) in enumerate(zip(shown, restored, strict=True))
    ]
    entries.insert(2, Entry("Original", "", "the clean original", "original", part(original), None))
    height, width = original.shape[:2]
    composites = [study.points(one.id)[photo] for one in shown]
    return Contest(
        photo=photo,
        low=min(composites),
        high=max(composites),
        width=min(SIDE, width),
        height=min(SIDE, height),
        cropped=max(height, width) > SIDE,
        entries=entries,
    )


def _where_they_differ(degraded: np.ndarray, original: np.ndarray, restored: list[np.ndarray]) -> np.ndarray:
    """Standard deviation over the restorations, (height, width) float32."""
    return np.stack([_grey(rgb) for rgb in restored]).std(axis=0)


def _where_it_fails(degraded: np.ndarray, original: np.ndarray, restored: list[np.ndarray]) -> np.ndarray:
    """How much further from the original the first restoration is than the input, (height, width) float32."""
    clean = _grey(original)
    return np.abs(_grey(restored[0]) - clean) - np.abs(_grey(degraded) - clean)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _window(weight: np.ndarray) -> tuple[int, int]:
    """Top left corner of the part, `SIDE` pixels a side, with the most of it; the first of equals."""
    height, width = (min(SIDE, length) for length in weight.shape)
    sums = cv2.boxFilter(weight, -1, (width, height), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    inside = sums[: weight.shape[0] - height + 1, : weight.shape[1] - width + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)
