"""Pictures of cells: denoised in batches across photographs and settings, finished and written in threads.

A batch holds whatever can be denoised together (`Denoising.together`), so that the small grids of a race still fill it.
Which pictures share a batch is a function of the cells and photographs asked for, never of what is already there or of
who makes it, for rounding may depend on the neighbours: a killed or a shared sweep makes the same bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lora_core.bases.base import Base, to_rgb
from lora_core.colour import COLOUR_FIXES
from lora_core.denoising import Denoising
from lora_core.errors import DataError
from lora_core.restoration import restore_latents, return_detail
from lora_core.share import Turns
from lora_core.sweep.cells import picture_path, put_picture
from lora_core.sweep.grid import Cell
from lora_core.sweep.inputs import Input
from lora_core.workspace import StudyFolder

WRITERS = 2
"""Threads that compress pictures while the next ones are denoised."""

CPU_CELLS = 8192
"""Latent cells of a batch on a CPU, eight pictures of 32 x 32; more are slower, for they outgrow its caches."""

_Item = tuple[Denoising, Input]


@dataclass(frozen=True)
class Batch:
    """What is denoised at once, with the same weights.

    Attributes:
        items: a denoising and a photograph each.
        cells: what is finished from each denoising.
    """

    items: Sequence[_Item]
    cells: Mapping[Denoising, Sequence[Cell]]

    @property
    def cost(self) -> int:
        """Denoiser evaluations times pixels."""
        return sum(cost(how, one.size) for how, one in self.items)

    def pictures(self) -> Iterator[tuple[Cell, str]]:
        """The cell and the photograph of each picture that comes of it."""
        return ((cell, one.name) for how, one in self.items for cell in self.cells[how])


def cost(how: Denoising, size: tuple[int, int]) -> int:
    """What a picture of (height, width) costs, in evaluations times pixels."""
    return how.evaluations * size[0] * size[1]


@dataclass(frozen=True)
class Painter:
    """Restores inputs with the weights in place.

    Attributes:
        seed: of the experiment, for the start noise.
        batch: pictures denoised at once.
        turns: whose each batch is.
        progress: told of pictures that are done.
        own: folder of this process, where pictures that it makes are counted.
    """

    study: StudyFolder
    base: Base
    seed: int
    batch: int
    turns: Turns
    progress: Callable[[int], object]
    own: Path

    def missing(self, cells: Sequence[Cell], inputs: Sequence[Input]) -> list[Batch]:
        """The batches of mine that lack a picture. Ask once for each group of cells with the same weights, in order."""
        groups: dict[Hashable, dict[Denoising, list[Cell]]] = defaultdict(lambda: defaultdict(list))
        for cell in cells:
            groups[cell.denoising.together][cell.denoising].append(cell)
        mine = [
            batch
            for of in groups.values()
            for batch in (Batch(items, of) for items in self._chunks(list(of), inputs))
            if self.turns.take(batch.cost)
        ]
        there = [all(self._path(*picture).exists() for picture in batch.pictures()) for batch in mine]
        self.progress(sum(len(list(batch.pictures())) for batch, done in zip(mine, there, strict=True) if done))
        return [batch for batch, done in zip(mine, there, strict=True) if not done]

    @torch.no_grad()
    def paint(self, batches: Sequence[Batch], text: Tensor) -> None:
        """Makes what is missing of these batches' pictures.

        Args:
            batches: of `missing`.
            text: as `restore_latents` wants it.

        Raises:
            DataError: the base answers with values that are not finite.
        """
        with ThreadPoolExecutor(WRITERS) as pool:
            written: list[Future[None]] = []
            for batch in batches:
                count = 0
                for cell, one, picture in self._pictures(batch, text):
                    count += 1
                    if not (path := self._path(cell, one.name)).exists():
                        written.append(pool.submit(put_picture, path, picture, self.own))
                while len(written) > 8 * self.batch:
                    written.pop(0).result()
                self.progress(count)
            for file in written:
                file.result()

    def _chunks(self, denoisings: list[Denoising], inputs: Sequence[Input]) -> Iterator[list[_Item]]:
        """Batches of one picture size."""
        by_size: dict[torch.Size, list[_Item]] = defaultdict(list)
        for one in inputs:
            for how in denoisings:
                by_size[one.latents.shape].append((how, one))
        for (_, height, width), items in by_size.items():
            count = self.batch
            if self.base.device.type == "cpu":
                count = max(1, min(count, CPU_CELLS // (height * width)))
            for first in range(0, len(items), count):
                yield items[first : first + count]

    def _pictures(self, batch: Batch, text: Tensor) -> Iterator[tuple[Cell, Input, np.ndarray]]:
        chunk = batch.items
        degraded = torch.stack([one.latents for _, one in chunk])
        noise = torch.stack([one.noise(self.seed, how.seed) for how, one in chunk]).to(degraded.device)
        latents = restore_latents(self.base, degraded, text, [how for how, _ in chunk], noise)
        decoded = self.base.decode(latents)
        if not torch.isfinite(decoded).all():
            names = ", ".join(dict.fromkeys(one.name for _, one in chunk))
            raise DataError(f"the base gave values that are not finite for {names}; use base.precision=bf16 or fp32")
        by_finish: dict[tuple[float, str, tuple[int, int]], list[tuple[int, Cell]]] = defaultdict(list)
        for row, (how, one) in enumerate(chunk):
            for cell in batch.cells[how]:
                by_finish[cell.detail_return, cell.colour_fix, one.size].append((row, cell))
        for (share, fix, (height, width)), places in by_finish.items():
            rows, part = [row for row, _ in places], (..., slice(height), slice(width))  # padding has no colours
            source = torch.stack([chunk[row][1].pixels[part] for row in rows]).to(decoded.device)
            restored = decoded[rows][part]
            if share:
                dropped = torch.stack([chunk[row][1].dropped[part] for row in rows]).to(decoded.device)
                restored = return_detail(restored, dropped, share)
            pictures = to_rgb(COLOUR_FIXES[fix](restored, source))
            for (row, cell), picture in zip(places, pictures, strict=True):
                yield cell, chunk[row][1], np.ascontiguousarray(picture)

    def _path(self, cell: Cell, name: str) -> Path:
        return picture_path(self.study, cell.id, name)
