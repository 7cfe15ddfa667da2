"""The further columns: metrics that the experiment chooses and the diagnostics, for cells that saw all photographs.

Pictures stream from the disk in batches of one size and are kept no longer than their batch. Each metric's numbers are
kept on the disk as the core scores are.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection
from lora_core.images import photo_size
from lora_core.metrics.registry import DIAGNOSTICS, METRICS, Metric, Opened
from lora_core.scoring.kept import Digests, KeptScores
from lora_core.scoring.pictures import Originals, digest, read_pair, sweep_again
from lora_core.scoring.points import Row, mean_of
from lora_core.scoring.scorer import WORKERS
from lora_core.workspace import StudyFolder

BATCH_PIXELS = 1_000_000
"""Pixels of the pictures that are measured at once, at least one picture; VGG-16 needs about 1 GiB for them."""

_log = logging.getLogger(__name__)


class Columns:
    """The further columns of a study's tables.

    Attributes:
        opened: the metrics that are computed, in the order of the columns.
        left_out: why a metric cannot be computed for these photographs, by name.
    """

    def __init__(self, study: StudyFolder, originals: Originals, section: ScoringSection) -> None:
        """Opens the metrics.

        Raises:
            ConfigError, ResourceError: weights or a package are not here, or a file holds something else.
            DataError: an original cannot be read.
        """
        self._study, self._originals = study, originals
        self._sizes = {name: photo_size(originals.path(name)) for name in originals.digests}
        chosen = [*DIAGNOSTICS, *(METRICS[name] for name in section.metrics)]
        self.left_out = {metric.name: reason for metric in chosen if (reason := self._too_small(metric))}
        for reason in self.left_out.values():
            _log.warning("%s", reason)
        self.opened: list[Opened] = [metric.open(section) for metric in chosen if metric.name not in self.left_out]
        self.names = [metric.name for metric in chosen]

    def _too_small(self, metric: Metric) -> str | None:
        """A mean must not be over some of the photographs, so one that is too small leaves the column empty."""
        for name, (width, height) in self._sizes.items():
            if min(width, height) < metric.side:
                return (
                    f"{metric.label} needs pictures of at least {metric.side}x{metric.side} pixels and {name} has "
                    f"{width}x{height}: its column is empty; leave it out of scoring.metrics, or replace the photograph"
                )
        return None

    def each(self, cells: Sequence[str], progress: Callable[[], object] = lambda: None) -> dict[str, dict[str, Row]]:
        """The numbers of whole cells, by cell and photograph.

        Raises:
            DataError: a picture is missing, unreadable or of another size than its original.
        """
        found = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            for cell, of_cell in zip(cells, pool.map(self._of_cell, cells), strict=True):
                found[cell] = of_cell
                progress()
        return found

    def _of_cell(self, cell: str) -> dict[str, Row]:
        folder = self._study.cells / cell
        pictures: dict[str, Digests] = {
            name: (digest(folder / f"{name}.png"), original) for name, original in self._originals.digests.items()
        }
        kept = {one.name: self._kept(cell, one) for one in self.opened}
        values = {name: file.read(pictures) for name, file in kept.items()}
        if missing := [one for one in self.opened if values[one.name].keys() != pictures.keys()]:
            for name, measured in self._measure(cell, missing).items():
                kept[name].add(pictures, measured)
                values[name] = measured
        return {photo: {one.name: values[one.name][photo][one.name] for one in self.opened} for photo in pictures}

    def _kept(self, cell: str, metric: Opened) -> KeptScores:
        return KeptScores(self._study.scores, cell, {metric.name: metric.convention}, suffix=f"-{metric.name}")

    def _measure(self, cell: str, metrics: Sequence[Opened]) -> dict[str, dict[str, dict[str, float]]]:
        """By metric and photograph. Always all photographs of a cell: a batch then never depends on what was kept."""
        folder = self._study.cells / cell
        values: dict[str, dict[str, dict[str, float]]] = {metric.name: {} for metric in metrics}
        for names in self._batches():
            pairs = [
                read_pair(folder / f"{name}.png", self._originals.path(name), way_out=sweep_again(folder))
                for name in names
            ]
            restored, originals = (np.stack(halves) for halves in zip(*pairs, strict=True))
            for metric in metrics:
                measured = dict(zip(names, metric.measure(restored, originals).tolist(), strict=True))
                _require_finite(folder, metric, measured)
                values[metric.name] |= {name: {metric.name: value} for name, value in measured.items()}
        return values

    def _batches(self) -> Iterator[list[str]]:
        """Names of photographs of one size that are measured together."""
        by_size: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name, size in self._sizes.items():
            by_size[size].append(name)
        for (width, height), names in by_size.items():
            count = max(1, BATCH_PIXELS // (width * height))
            yield from (names[first : first + count] for first in range(0, len(names), count))


def _require_finite(folder: Path, metric: Opened, measured: Mapping[str, float]) -> None:
    for name, value in measured.items():
        if not math.isfinite(value):
            raise DataError(
                f"{metric.name} of {folder / name}.png is {value}; leave it out of scoring.metrics, or replace the "
                "photograph"
            )


def means_of(columns: Mapping[str, Row], names: Sequence[str]) -> Row:
    """The means of one cell's further columns; None where a metric was left out."""
    rows = list(columns.values())
    return {name: mean_of([row[name] for row in rows]) if rows and name in rows[0] else None for name in names}
