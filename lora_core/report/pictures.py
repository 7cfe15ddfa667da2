"""The photographs on the page: which ones, and their pixels inside the file."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lora_core.images import read_rgb
from lora_core.report.data import Row, StudyData

LIMIT = 20
SIDE = 512
_LOSSLESS_SIDE = 256
_THUMBNAIL_SIDE = 112


@dataclass(frozen=True)
class Panel:
    """One held-out photograph: degraded, restored by the winner, original.

    Attributes:
        standing: "best", "median", "worst" among all held-out photographs by PSNR-Y gain, or "".
        gain: PSNR-Y of the restored picture over the degraded one, dB.
        width, height: pixels shown, each at most `SIDE`.
        cropped: only the centre is shown, because the photograph is larger.
        degraded, restored, original, thumbnail: data URIs.
        before, after: rows of the table by photograph, for the input and the winner.
    """

    name: str
    standing: str
    gain: float
    width: int
    height: int
    cropped: bool
    degraded: str
    restored: str
    original: str
    thumbnail: str
    before: Row
    after: Row


def photo_gains(study: StudyData) -> list[tuple[str, Row, Row]]:
    """(photograph, its scores as input, its scores restored by the winner), highest PSNR-Y gain first."""
    restored, source = study.by_photo.get(study.best.winner["id"], {}), study.best.result["input"]["id"]
    pairs = [
        (photo, before, restored[photo])
        for photo, before in study.by_photo.get(source, {}).items()
        if photo in restored
    ]
    return sorted(pairs, key=lambda pair: (pair[1]["psnr_y"] - pair[2]["psnr_y"], pair[0]))


def panels(study: StudyData) -> list[Panel]:
    """At most `LIMIT` photographs, spread evenly from the highest gain to the lowest.

    A photograph whose pictures were cleared away is left out.
    """
    places = _PicturePlaces(study)
    shown = [pair for pair in photo_gains(study) if places.exist(pair[0])]
    last = len(shown) - 1
    standings = {last: "worst", last // 2: "median", 0: "best"} if last > 1 else {}
    chosen = spread(len(shown), LIMIT, last // 2)
    return [_panel(places, *shown[index], standings.get(index, "")) for index in chosen]


def spread(count: int, limit: int, keep: int) -> list[int]:
    """At most `limit` of the indices 0 … count - 1: both ends, `keep`, and evenly between."""
    if count <= limit:
        return list(range(count))
    indices = np.linspace(0, count - 1, limit).round().astype(int)
    indices[np.abs(indices - keep).argmin()] = keep
    return [int(index) for index in indices]


class _PicturePlaces:
    """Where the three pictures of a photograph lie."""

    def __init__(self, study: StudyData) -> None:
        root = study.folder.root / "test"
        self._folders = (root / "degraded", study.folder.cells / study.best.winner["id"], root / "original")

    def paths(self, photo: str) -> list[Path]:
        return [folder / f"{photo}.png" for folder in self._folders]

    def exist(self, photo: str) -> bool:
        return all(path.is_file() for path in self.paths(photo))


def _panel(places: _PicturePlaces, photo: str, before: Row, after: Row, standing: str) -> Panel:
    pictures = [read_rgb(path) for path in places.paths(photo)]
    degraded, restored, original = (_centre(picture) for picture in pictures)
    return Panel(
        name=photo,
        standing=standing,
        gain=after["psnr_y"] - before["psnr_y"],
        width=restored.shape[1],
        height=restored.shape[0],
        cropped=restored.shape != pictures[1].shape,
        degraded=data_uri(degraded),
        restored=data_uri(restored),
        original=data_uri(original),
        thumbnail=_thumbnail(restored),
        before=before,
        after=after,
    )


def _centre(rgb: np.ndarray) -> np.ndarray:
    """The middle at full resolution: a smaller version would hide exactly what restoration changes."""
    height, width = rgb.shape[:2]
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    return rgb[top : top + SIDE, left : left + SIDE]


def data_uri(rgb: np.ndarray) -> str:
    """(height, width, 3) uint8 as a data URI: small pictures lossless, others as JPEG of quality 90, full colour."""
    if max(rgb.shape[:2]) <= _LOSSLESS_SIDE:
        return _encoded(Image.fromarray(rgb), "WEBP", lossless=True, quality=50)
    return _encoded(Image.fromarray(rgb), "JPEG", quality=90, subsampling=0)


def _thumbnail(rgb: np.ndarray) -> str:
    """The middle square, small."""
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    square = Image.fromarray(rgb[top : top + side, left : left + side])
    square.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return _encoded(square, "JPEG", quality=85)


def _encoded(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
