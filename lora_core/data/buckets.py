"""Aspect-ratio buckets: which shape each photograph is trained in. Imports no torch.

The shapes are few and fixed, so that compiled and warmed-up code is made once for each: of all sides that are
multiples of the step, with an area of at most resolution x resolution and a bounded ratio, only those that no other
such shape contains. A photograph goes to the bucket that is nearest in ratio, on a logarithmic scale, where portrait
and landscape are alike. It is scaled to cover the bucket, and what stands over is cropped, at random, view by view.

No photograph is left out and none is enlarged unasked: one that is too long or too small is an error that names it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lora_core.errors import DataError
from lora_core.sections.data import DataSection


class Bucket(NamedTuple):
    """A shape in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Shapes:
    """The shape of each photograph.

    Attributes:
        buckets: those that have a photograph, narrowest first.
        index: (photographs,) int32, the bucket of each.
    """

    buckets: tuple[Bucket, ...]
    index: np.ndarray

    def of(self, photo: int) -> Bucket:
        """The bucket of a photograph by its number."""
        return self.buckets[self.index[photo]]

    def members(self, bucket: int) -> np.ndarray:
        """The numbers of the photographs in a bucket, rising, int64."""
        return np.flatnonzero(self.index == bucket)


@dataclass(frozen=True)
class BucketRow:
    """What one bucket holds.

    Attributes:
        photos: photographs.
        views: visits an epoch, repeats included.
        scale: mean factor by which the photographs are scaled; 1 leaves them as they are.
        cropped: mean share of the scaled photograph that a view leaves out, in [0, 1).
        filled: visits by which the run is longer, so that its last update of this bucket is full.
    """

    bucket: Bucket
    photos: int
    views: int
    scale: float
    cropped: float
    filled: int


def bucket_shapes(section: DataSection, multiple: int = 8) -> tuple[Bucket, ...]:
    """All shapes that photographs may be trained in, narrowest first.

    Args:
        section: framing `crop` has one, the square; of `bucket` the step, the resolution and the ratio decide.
        multiple: pixels that a side must be a multiple of for the base.

    Raises:
        DataError: no shape is possible.
    """
    if section.framing == "crop":
        if section.resolution % multiple:
            raise DataError(
                f"data.resolution: {section.resolution} is not a multiple of {multiple}, which this base needs"
            )
        return (Bucket(section.resolution, section.resolution),)
    step = math.lcm(section.bucket_step, multiple)
    if step > section.resolution:
        raise DataError(
            f"data.resolution: {section.resolution} is smaller than the smallest bucket, {step}x{step} "
            f"(data.bucket_step={section.bucket_step}, the base needs multiples of {multiple}); raise it"
        )
    tallest = {}
    for width in range(step, int(section.resolution * math.sqrt(section.bucket_ratio)) + 1, step):
        limit = min(section.resolution**2 / width, width * section.bucket_ratio)
        height = int(limit + 1e-9) // step * step
        if height and width <= height * section.bucket_ratio:
            tallest[height] = width  # of equal heights the widest stays
    buckets = sorted(Bucket(width, height) for height, width in tallest.items())
    return tuple(one for one in buckets if not any(_contains(other, one) for other in buckets if other != one))


def assign(sizes: np.ndarray, section: DataSection, multiple: int = 8, names: Sequence[object] = ()) -> Shapes:
    """Gives each photograph its bucket; a pure function of the sizes and the settings.

    Args:
        sizes: (photographs, 2) integers, width and height in pixels, upright.
        section: the data settings.
        multiple: as for `bucket_shapes`.
        names: of the photographs, for errors.

    Raises:
        DataError: a photograph fits no bucket: it is too long, or smaller than it; or no bucket is possible.
    """
    buckets = bucket_shapes(section, multiple)
    sides = sizes.astype(np.float64)
    if section.framing == "bucket":
        _refuse(np.max(sides, 1) > section.bucket_ratio * np.min(sides, 1) + 1e-9, sizes, names, (
            f"longer than data.bucket_ratio = {section.bucket_ratio:g} allows; raise that, crop the photograph, or "
            "set data.framing=crop"
        ))  # fmt: skip
    ratios = np.log([bucket.width / bucket.height for bucket in buckets])
    # Rounded, so that a photograph halfway between two buckets goes to the same one on every machine.
    distances = np.abs(np.log(sides[:, 0] / sides[:, 1])[:, None] - ratios[None]).round(9)
    index = np.argmin(distances, 1).astype(np.int32) if len(sizes) else np.zeros(0, np.int32)
    small = (sizes < np.array(buckets)[index]).any(1)
    if section.framing == "crop":
        way_out = f"smaller than data.resolution = {section.resolution}; lower that or remove it"
        _refuse(small, sizes, names, way_out)
    elif not section.bucket_upscale:
        first = Bucket(*buckets[index[int(np.argmax(small))]]) if small.any() else None
        _refuse(small, sizes, names, (
            f"smaller than its bucket {first}; set data.bucket_upscale=true to enlarge it, lower data.resolution, or "
            "remove it"
        ))  # fmt: skip
    used, index = np.unique(index, return_inverse=True)
    return Shapes(tuple(buckets[number] for number in used), index.astype(np.int32))


def scaled_size(size: tuple[int, int], bucket: Bucket) -> tuple[int, int]:
    """(width, height) of a photograph of this size once it is scaled to just cover the bucket; never less than it."""
    scale = max(bucket.width / size[0], bucket.height / size[1])
    return max(bucket.width, round(size[0] * scale)), max(bucket.height, round(size[1] * scale))


def bucket_report(
    shapes: Shapes, sizes: np.ndarray, repeats: Sequence[int], section: DataSection, epochs: int, batch: int
) -> list[BucketRow]:
    """What each bucket holds, narrowest first.

    Args:
        shapes: what `assign` made of the sizes.
        sizes: (photographs, 2) integers, width and height.
        repeats: visits of each photograph an epoch.
        section: the data settings.
        epochs: of the run.
        batch: pictures of a weight update.
    """
    rows = []
    visits = np.asarray(repeats, np.int64)
    for number, bucket in enumerate(shapes.buckets):
        members = shapes.members(number)
        sides = sizes[members].astype(np.float64)
        fit = np.maximum(bucket.width / sides[:, 0], bucket.height / sides[:, 1])
        scale = fit if section.framing == "bucket" else np.ones_like(fit)
        kept = bucket.width * bucket.height / (sides * scale[:, None]).prod(1)
        views = int(visits[members].sum())
        rows.append(
            BucketRow(bucket, len(members), views, float(scale.mean()), float(1 - kept.mean()), -views * epochs % batch)
        )
    return rows


def bucket_lines(rows: Sequence[BucketRow]) -> list[str]:
    """The report as plain text, a line a bucket."""
    lines = [f"{'bucket':>11}{'photos':>9}{'views':>9}{'scale':>8}{'cropped':>9}{'last batch':>12}"]
    for row in rows:
        counts = f"{row.bucket!s:>11}{row.photos:>9,}{row.views:>9,}"
        lines.append(f"{counts}{row.scale:>8.2f}{row.cropped:>9.1%}{f'+{row.filled}':>12}")
    return lines


def _contains(outer: Bucket, inner: Bucket) -> bool:
    return outer.width >= inner.width and outer.height >= inner.height


def _refuse(bad: np.ndarray, sizes: np.ndarray, names: Sequence[object], reason: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        others = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
        name = names[first] if names else f"photograph {first}"
        raise DataError(f"{name} is {sizes[first][0]}x{sizes[first][1]}{others}, {reason}")
