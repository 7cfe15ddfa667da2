"""Core scores of cells, incremental: what was scored once, in this process or an earlier one, is not scored again."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lora_core import metrics
from lora_core.experiment import ScoringSection
from lora_core.perceptual import Perceptual, choose_perceptual
from lora_core.scoring.kept import Digests, KeptScores
from lora_core.scoring.pictures import Originals, digest, read_pair, sweep_again
from lora_core.scoring.points import Row
from lora_core.workspace import StudyFolder

SCORES = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")
"""The core scores, in the order of the tables."""

WORKERS = min(4, os.cpu_count() or 1)
"""Cells scored at once; OpenCV and NumPy release the interpreter. Scores do not depend on it."""


def score_pair(restored: np.ndarray, original: np.ndarray, perceptual: Perceptual) -> dict[str, float]:
    """The core scores of one (h, w, 3) uint8 picture against its original, by name.

    Raises:
        DataError: the sizes differ, or are too small for a metric's window.
    """
    return {**metrics.fidelity(restored, original), "perceptual": perceptual(restored, original)}


class Scorer:
    """Scores the cells of a study against the originals of its test photographs.

    Attributes:
        perceptual: the perceptual metric in use.
        conventions: what the numbers mean; scores of other conventions are other scores.
        originals: the test photographs.
    """

    def __init__(self, study: StudyFolder, names: Sequence[str], section: ScoringSection) -> None:
        """Chooses the perceptual metric and reads the digests of the originals.

        Args:
            study: has `test/original/`, `cells/` and `scores/`.
            names: every test photograph, without suffix.
            section: which perceptual metric.

        Raises:
            DataError: an original is missing.
            ConfigError, ResourceError: the perceptual metric cannot be had (`choose_perceptual`).
        """
        self.perceptual = choose_perceptual(section)
        self.conventions = {**metrics.CONVENTIONS, self.perceptual.name: self.perceptual.convention}
        self.originals = Originals.of(study, names)
        self._study = study
        self._known: dict[str, dict[str, Row]] = defaultdict(dict)

    def rows(self, cell_id: str, names: Sequence[str]) -> list[Row]:
        """Scores of a cell's pictures, a row a photograph in the order of `names`.

        Returns:
            Rows of id, photo, psnr_y and psnr_rgb (dB), ssim_y, ssim_rgb, and perceptual (0 is equal).

        Raises:
            DataError: a picture is missing, unreadable or of another size than its original.
        """
        known = self._known[cell_id]
        if unknown := [name for name in names if name not in known]:
            known |= self._found(cell_id, unknown)
        return [known[name] for name in names]

    def many(self, cells: Sequence[str], names: Sequence[str]) -> dict[str, list[Row]]:
        """`rows` of several cells at once, by cell."""
        return self.each(dict.fromkeys(cells, names))

    def each(
        self, asked: Mapping[str, Sequence[str]], progress: Callable[[], object] = lambda: None
    ) -> dict[str, list[Row]]:
        """`rows` of several cells at once, each of its own photographs; `progress` is called after each cell."""
        scores = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            for cell, rows in zip(asked, pool.map(self.rows, asked, asked.values()), strict=True):
                scores[cell] = rows
                progress()
        return scores

    def _found(self, cell: str, names: Sequence[str]) -> dict[str, Row]:
        """Rows by photograph, from the disk where they are there."""
        folder = self._study.cells / cell
        pictures: dict[str, Digests] = {
            name: (digest(folder / f"{name}.png"), self.originals.digests[name]) for name in names
        }
        kept = KeptScores(self._study.scores, cell, self.conventions)
        scores = kept.read(pictures)
        if missing := [name for name in names if name not in scores]:
            new = {}
            for name in missing:
                pair = read_pair(folder / f"{name}.png", self.originals.path(name), way_out=sweep_again(folder))
                new[name] = score_pair(*pair, self.perceptual)
            kept.add(pictures, new)
            scores |= new
        return {name: {"id": cell, "photo": name} | {score: scores[name][score] for score in SCORES} for name in names}
