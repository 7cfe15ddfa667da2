"""Latents of views: read from a cache that is made once, or encoded in the step.

A cache is named after everything that decides its content and is never looked up by position or file name alone. It
is one file for all buckets, with a checksum for every view that is verified whenever the view is read.
With data.cache=false every view, of which there are then endlessly many, is cut, degraded and encoded when it is
asked for.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lora_core.bases.base import Base, to_pixels
from lora_core.data.buckets import Shapes
from lora_core.data.layout import Layout, Sample, manifest_of, views_at_once
from lora_core.data.pair import Pair, pixels_digest
from lora_core.data.records import RecordFile, RecordWriter
from lora_core.data.together import Barrier, Share, alone, make_together
from lora_core.data.views import Rows, View, ViewSource, make_views, mask_weights
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.workspace import Workspace

__all__ = ["Rows", "ViewCache", "ViewSource", "ViewStream", "open_views"]

Progress = Callable[[int, int], object]
T = TypeVar("T")
R = TypeVar("R")


def open_views(
    workspace: Workspace,
    experiment: Experiment,
    pairs: Sequence[Pair],
    shapes: Shapes,
    base: Base,
    base_digest: str,
    progress: Progress = lambda done, total: None,
    share: Share = (0, 1),
    barrier: Barrier = alone,
) -> ViewSource:
    """The latents of these pairs, whose cache is made first where it is missing.

    Args:
        workspace: holds the cache.
        experiment: seed, base, data and degradation decide the views.
        pairs: training pairs, or regularisation images, of which the clean half alone is encoded.
        shapes: the bucket of each pair.
        base: encodes; with data.cache=false its autoencoder is needed until training ends.
        base_digest: of the base's files.
        progress: called with pairs done and pairs in all; where processes share the work, with an estimate.
        share: number of this process, and of all that open the views at the same time with the same arguments.
        barrier: returns once every process has called it.

    Raises:
        DataError: a photograph, twin or mask that cannot be used, a cache that is damaged or not what its name says.
        ResourceError: the disk is too small, or another process failed.
    """
    if len(shapes.index) != len(pairs):
        raise ValueError(f"{len(shapes.index)} shapes for {len(pairs)} pairs")
    for bucket in shapes.buckets:
        if any(side % base.multiple for side in bucket):
            raise DataError(
                f"data.resolution: {bucket} is not a multiple of {base.multiple} pixels, which this base needs"
            )
    masked = pairs[0].mask_file is not None
    if any((pair.mask_file is not None) != masked or pair.plain != pairs[0].plain for pair in pairs):
        raise ValueError("pairs with and without a mask or a degraded half, in one set")
    layout = Layout(
        shapes=shapes,
        views=experiment.data.views,
        channels=base.vae.config.latent_channels,
        factor=base.factor,
        halves=1 if pairs[0].plain else 2,
        masked=masked,
        dtype="float32" if experiment.base.precision == "fp32" else "float16",
    )
    encoder = Encoder(experiment, pairs, layout, base)
    if not experiment.data.cache:
        return ViewStream(encoder)
    manifest = manifest_of(layout, experiment, pixels_digest(pairs, workspace), base_digest)
    folder = workspace.cache / f"latents-{manifest['key'][:16]}"
    records = make_together(
        folder, manifest, lambda file: _encode_share(file, encoder, share, progress), "the latent cache", share, barrier
    )
    return ViewCache(records, layout, pairs, experiment.data.unmasked_weight)


class ViewCache:
    """Latents in a file; only the views that are asked for come into memory."""

    def __init__(self, file: Path, layout: Layout, pairs: Sequence[Pair], unmasked_weight: float) -> None:
        self._file = RecordFile(file, layout.dtype)
        self._layout = layout
        self._pairs = pairs
        self._unmasked_weight = unmasked_weight

    def rows(self, samples: Sequence[Sample]) -> Rows:
        """As `ViewSource.rows`.

        Raises:
            DataError: the file is damaged where one of them lies.
        """
        values = [self._read(sample) for sample in samples]
        return _rows(np.stack(values), self._layout, samples, self._unmasked_weight)

    def _read(self, sample: Sample) -> np.ndarray:
        values = self._file.read(*self._layout.place(sample))
        if values is None:
            raise DataError(
                f"{self._file.path} is damaged at view {sample[1]} of {self._pairs[sample[0]].clean_file}; "
                f"delete the cache folder {self._file.path.parent}, and it is made again"
            )
        return values.astype(np.float32)


class Encoder:
    """Pairs to records: cuts, degrades, encodes."""

    def __init__(self, experiment: Experiment, pairs: Sequence[Pair], layout: Layout, base: Base) -> None:
        self.experiment = experiment
        self.pairs = pairs
        self.layout = layout
        self._base = base

    def cut(self, samples: Sequence[Sample]) -> list[View]:
        """The pixels of views; each photograph is read once where its views follow one another."""
        views = []
        for pair, group in groupby(samples, lambda sample: sample[0]):
            numbers = [view for _, view in group]
            views += make_views(self.pairs[pair], self.experiment, self.layout.shapes.of(pair), numbers)
        return views

    def encode(self, samples: Sequence[Sample], views: Sequence[View]) -> np.ndarray:
        """(views, numbers) in the layout's type: a record each.

        Raises:
            DataError: latents that are not finite.
        """
        halves = [half for view in views for half in (view.clean, view.degraded)[: self.layout.halves]]
        latents = self._base.encode(to_pixels(np.stack(halves))).cpu().numpy()
        parts = [latents.reshape(len(views), -1)]
        if self.layout.masked:
            masks = [mask_weights(view.mask, self.layout.factor) for view in views if view.mask is not None]
            parts.append(np.stack(masks).reshape(len(views), -1))
        with np.errstate(over="ignore"):
            records = np.concatenate(parts, 1).astype(self.layout.dtype)
        for (pair, view), record in zip(samples, records, strict=True):
            if not np.isfinite(record).all():
                raise DataError(
                    f"the latents of {self.pairs[pair].clean_file}, view {view}, are not finite in "
                    f"{self.layout.dtype}; the photograph or the base's autoencoder is damaged, or base.precision=fp32 "
                    "is needed"
                )
        return records


class ViewStream:
    """Latents that are encoded when they are asked for; every number is a view."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(_workers(1), thread_name_prefix="views")

    def rows(self, samples: Sequence[Sample]) -> Rows:
        """As `ViewSource.rows`. Raises as `open_views`."""
        layout = self._encoder.layout
        views = list(self._pool.map(lambda sample: self._encoder.cut([sample])[0], samples))
        size = views_at_once(layout.shapes.of(samples[0][0]))
        parts = [
            self._encoder.encode(samples[first : first + size], views[first : first + size])
            for first in range(0, len(samples), size)
        ]
        values = np.concatenate(parts).astype(np.float32)
        return _rows(values, layout, samples, self._encoder.experiment.data.unmasked_weight)


def _rows(values: np.ndarray, layout: Layout, samples: Sequence[Sample], unmasked_weight: float) -> Rows:
    """Splits float32 records (batch, numbers), all of one shape."""
    height, width = layout.shape(samples[0][0])
    if any(layout.shape(pair) != (height, width) for pair, _ in samples):
        raise ValueError("samples of several shapes in one batch")
    planes = torch.from_numpy(values).view(len(samples), -1, height, width)
    clean = planes[:, : layout.channels].contiguous()
    degraded = clean if layout.halves == 1 else planes[:, layout.channels : 2 * layout.channels].contiguous()
    mask: Tensor | None = None
    if layout.masked:
        mask = (unmasked_weight + (1 - unmasked_weight) * planes[:, -1:]).clamp(unmasked_weight, 1)
    return Rows(clean, degraded, mask)


def _encode_share(file: Path, encoder: Encoder, share: Share, progress: Progress) -> None:
    """Writes every share-th unit that is not in the file already."""
    layout, pairs = encoder.layout, len(encoder.pairs)
    known = RecordFile(file, layout.dtype)
    writer = RecordWriter(file, layout.dtype)

    def cut(unit: list[Sample]) -> list[View] | None:
        if all(known.read(*layout.place(sample)) is not None for sample in unit):
            return None  # by a run that was killed
        return encoder.cut(unit)

    seen = 0
    try:
        for unit, views in _ahead(cut, layout.units(share), _workers(share[1])):
            if views is not None:
                for sample, record in zip(unit, encoder.encode(unit, views), strict=True):
                    number, offset, _ = layout.place(sample)
                    writer.write(number, offset, record)
            seen += len(unit) * share[1]
            progress(min(pairs, seen // layout.views), pairs)
    finally:
        writer.close()
        known.close()  # Windows renames no folder with open files


def _ahead(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """(item, work(item)) in order, a few made ahead in threads."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="views")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _workers(processes: int) -> int:
    return max(2, min(16, (os.cpu_count() or 2) // processes))
