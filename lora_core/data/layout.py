"""Where the latents of each view lie in the file of a cache. Imports no torch."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from lora_core.data.buckets import Bucket, Shapes
from lora_core.data.records import record_bytes
from lora_core.degradation.presets import recipe_of
from lora_core.experiment import Experiment
from lora_core.files import value_digest

_VERSION = 2
# Photographs that are encoded together: so many pixels, at least one and at most eight views of both halves.
_PIXELS, _MOST = 8 * 512 * 512, 8

Sample = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """The records of a cache: view v of pair p is number p * views + v; pairs follow one another.

    A record is the clean half (channels, height, width), the degraded half where there is one, and the mask
    (1, height, width) where there is one.

    Attributes:
        views: of each pair.
        channels: of the latents.
        factor: pixels along one side of a latent cell.
        halves: 2, or 1 where the degraded half is the clean one.
        masked: whether there are masks.
        dtype: of the numbers, "float32" or "float16".
    """

    shapes: Shapes
    views: int
    channels: int
    factor: int
    halves: int
    masked: bool
    dtype: str

    def shape(self, pair: int) -> tuple[int, int]:
        """(height, width) of a pair's latents."""
        return self._cells(self.shapes.of(pair))

    def place(self, sample: Sample) -> tuple[int, int, int]:
        """(number, offset in bytes, numbers) of a record."""
        pair, view = sample
        if not 0 <= view < self.views:
            raise IndexError(f"view {view} of {self.views}")
        values = self._values(self.shapes.of(pair))
        return pair * self.views + view, int(self._starts[pair]) + view * record_bytes(values, self.dtype), values

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return int(self._starts[-1])

    def units(self, share: tuple[int, int]) -> Iterator[list[Sample]]:
        """The samples that are encoded together, every share-th of all: the same units however many share the work."""
        number = 0
        for index, bucket in enumerate(self.shapes.buckets):
            members, size = self.shapes.members(index), views_at_once(bucket)
            for first in range(0, len(members) * self.views, size):
                if number % share[1] == share[0]:
                    last = min(first + size, len(members) * self.views)
                    yield [(int(members[place // self.views]), place % self.views) for place in range(first, last)]
                number += 1

    def _cells(self, bucket: Bucket) -> tuple[int, int]:
        return bucket.height // self.factor, bucket.width // self.factor

    def _values(self, bucket: Bucket) -> int:
        height, width = self._cells(bucket)
        return height * width * (self.channels * self.halves + self.masked)

    @cached_property
    def _starts(self) -> np.ndarray:
        sizes = [record_bytes(self._values(bucket), self.dtype) * self.views for bucket in self.shapes.buckets]
        return np.concatenate([[0], np.cumsum(np.array(sizes, np.int64)[self.shapes.index])])


def views_at_once(bucket: Bucket) -> int:
    """How many views of this shape are encoded together."""
    return max(1, min(_MOST, _PIXELS // (2 * bucket.width * bucket.height)))


def manifest_of(layout: Layout, experiment: Experiment, pixels: str, base: str) -> dict[str, Any]:
    """What `done.json` says of a cache; its key stands for everything that decides the content.

    Args:
        layout: the cache's.
        experiment: seed, data and degradation decide the views.
        pixels: digest of the photographs, twins and masks.
        base: the base's digest.
    """
    data, degradation = experiment.data, experiment.degradation
    key = value_digest({
        "version": _VERSION,
        "photographs": pixels,
        "base": base,
        "seed": experiment.seed,
        "data": [data.framing, data.flip, data.masks, data.views],
        "degradation": degradation.model_dump(mode="json"),
        "recipe": None if degradation.preset == "own" else asdict(recipe_of(degradation.preset)),
        "buckets": [list(bucket) for bucket in layout.shapes.buckets],
        "shapes": sha256(layout.shapes.index.astype("<i4").tobytes()).hexdigest(),
        "layout": [layout.channels, layout.factor, layout.halves, layout.masked, layout.dtype],
    })  # fmt: skip
    return {
        "version": _VERSION,
        "key": key,
        "dtype": layout.dtype,
        "photographs": len(layout.shapes.index),
        "views": layout.views,
        "buckets": [str(bucket) for bucket in layout.shapes.buckets],
        "bytes": layout.bytes,
    }
