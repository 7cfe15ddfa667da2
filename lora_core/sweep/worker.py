"""The sweep process of one round: `python -m lora_core.sweep.worker WORKSPACE EXPERIMENT ROUND PART ERROR_FILE`.

The photographs come in stages, in an order of their own. In each stage the checkpoints, the slow axis, are outermost
and hot-swapped in one loaded base, and what is left of the grid restores the stage's photographs, which are encoded
once. Between stages the race drops what is clearly worse. Pictures are whole or absent and every decision is a function
of them, so a killed sweep goes on where it was and ends the same.

Processes that share a sweep each paint a part of every stage's batches (PART: `0-of-2`; `0-of-1` is the whole). None
writes a manifest of cells: that is left to who started them and knows that all have ended.
"""

import logging
import math
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_core.bases import base_digest
from lora_core.bases.base import in_evaluation
from lora_core.bases.stable_diffusion import open_base
from lora_core.company import Company
from lora_core.data.pairs import pairs_digest, test_pairs
from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import file_digest, read_json, require_space, write_json
from lora_core.images import photo_size, read_rgb
from lora_core.lora import attach
from lora_core.merging import in_place
from lora_core.process import child_main
from lora_core.progress import progress_bar
from lora_core.randomness import shuffled_index
from lora_core.restoration import denoisings_of
from lora_core.scoring import Scorer
from lora_core.scoring.constraints import add_feasible, constraints_of
from lora_core.scoring.tables import mean_rows, photo_rows
from lora_core.share import Share, Turns
from lora_core.sweep.cells import picture_path, write_compared
from lora_core.sweep.grid import Cell, Checkpoint, Reference, grid_digest, make_cells
from lora_core.sweep.inputs import Input, encode_inputs
from lora_core.sweep.launch import PART_DONE, company_of
from lora_core.sweep.painter import Painter, cost
from lora_core.sweep.race import Runner, Stage, judge
from lora_core.sweep.references import references_of, save_references
from lora_core.sweep.stages import price, stages
from lora_core.workspace import RoundFolder, Workspace

_log = logging.getLogger(__name__)
_BYTES_A_PIXEL = 0.8  # of an RGB picture as PNG, measured on photographs


class Sweep:
    """The sweep of one round, or a part of it."""

    def __init__(self, workspace: Workspace, experiment: Experiment, number: int, company: Company) -> None:
        self.experiment, self.study = experiment, workspace.study(experiment.name)
        folder, pairs = self.study.round(number), test_pairs(workspace, experiment)
        self._company, self._share = company, company.share
        write_compared(self.study, pairs, experiment.data.test_size)
        order = range(len(pairs)) if not experiment.sweep.race else _shuffled(len(pairs), experiment.seed)
        self.names = [pairs[place].name for place in order]
        self.base = open_base(experiment.base)
        self.base.vae.to(memory_format=torch.channels_last)  # a fifth faster, on CPUs too
        denoisings = denoisings_of(self.base.scheduler_config, experiment.sweep)
        common = grid_digest(experiment, base_digest(experiment.base), pairs_digest(pairs, workspace))
        checkpoints = [Checkpoint(None, "base", None), *_checkpoints(folder)]
        self.cells = make_cells(checkpoints, denoisings, experiment, common)
        self.references = references_of(common)
        self._require_space()

    def run(self) -> dict[str, Any] | None:
        """Makes every picture that is wanted, missing and its to make.

        Returns:
            What `sweep.json` says; None where a part of others is missing, who are not at work.
        """
        save_references(self.study, self._share.of(self.references), self.names, self.base)
        self.adapter = attach(
            self.base, self.experiment.adapter, self.experiment.seed, control=self.experiment.objective.control
        )
        section, photos = self.experiment.sweep, len(self.names)
        ends = stages(photos, section.race_confidence) if section.race else (photos,)
        if section.race and len(ends) == 1:
            _log.warning(
                "The race needs more than %d test photographs, there are %d: every setting restores all of them", 
                stages(10**6, section.race_confidence)[0], photos,
            )  # fmt: skip
        alive, seen, told = list(self.cells), dict.fromkeys(self.cells, 0), []
        with progress_bar("sweep", "picture", len(self.cells) * photos // self._share.count) as bar:
            for first, last in pairwise((0, *ends)):
                self._paint(alive, self.names[first:last], bar.update)
                if not self._company.wait_for(self._pictures(alive, self.names[first:last])):
                    return None
                seen |= dict.fromkeys(alive, last)
                if last < photos:
                    stage = self._judge(alive, last)
                    gone = {one.id for one in stage.dropped}
                    alive = [cell for cell in alive if cell.id not in gone]
                    told.append(stage)
                    bar.update(len(gone) * (photos - last) // self._share.count)
                    _log.info("After %d photographs %d of %d settings go on", last, len(alive), stage.cells)
        return {
            "test": self.names,
            "cells": [{**cell.row(), "photos": seen[cell]} for cell in self.cells],
            "references": [{**one.row(), "photos": photos} for one in self.references],
            "race": self._told(told, seen) if len(ends) > 1 else None,
        }

    def _paint(self, cells: Sequence[Cell], names: Sequence[str], progress: Any) -> None:
        """Makes the missing pictures of this share."""
        if all(path.exists() for path in self._pictures(cells, names)):
            progress(len(cells) * len(names) // self._share.count)
            return
        inputs, section = self._inputs(names), self.experiment.sweep
        walks = {cell.walk: cell.denoising for cell in cells}
        turns = Turns(self._share, sum(cost(how, one.size) for how in walks.values() for one in inputs))
        own = self._company.own
        painter = Painter(self.study, self.base, self.experiment.seed, section.batch, turns, progress, own)
        for (checkpoint, scale), group in groupby(cells, lambda cell: (cell.checkpoint, cell.lora_scale)):
            if batches := painter.missing(list(group), inputs):
                with in_evaluation(self.base), in_place(self.adapter, checkpoint.folder, scale or 1.0):
                    painter.paint(batches, self._embed() if self.experiment.adapter.text_encoder else self._text)

    def _pictures(self, cells: Sequence[Cell], names: Sequence[str]) -> Iterator[Path]:
        """These pictures and those of the references, whoever makes them."""
        wanted = [*((one.id, self.names) for one in self.references), *((cell.id, names) for cell in cells)]
        return (picture_path(self.study, cell, name) for cell, several in wanted for name in several)

    @cached_property
    def _text(self) -> Tensor:
        """The embeddings that hold for all, where no LoRA is on the text encoder."""
        return self._embed()

    def _embed(self) -> Tensor:
        return self.base.encode_prompt(["", self.experiment.data.prompt])

    def _inputs(self, names: Sequence[str]) -> list[Input]:
        folder = self.study.root / "test" / "degraded"
        pictures = {name: read_rgb(folder / f"{name}.png") for name in names}
        return encode_inputs(self.base, pictures, self.experiment.sweep.batch)

    def _judge(self, alive: Sequence[Cell], photos: int) -> Stage:
        """Every kind of cell by itself: LoRAs among LoRAs, settings of the bare base among themselves."""
        section = self.experiment.scoring
        start = self._input()
        scores = self._scorer.many(self._mine_first([cell.id for cell in alive]), self.names[:photos])
        scores[start.id] = self._scorer.rows(start.id, self.names)
        entries = [start.row(), *(cell.row() for cell in alive)]
        by_photo = photo_rows(entries, scores, section)
        means = mean_rows(entries, by_photo, self._scorer.perceptual.name)
        add_feasible(means, constraints_of(section))
        feasible = {row["id"] for row in means if row["feasible"]}
        dropped = []
        for kind in ("lora", "base"):
            runners = [
                Runner(
                    cell.id,
                    cell.walk,
                    cell.denoising.evaluations,
                    [row["composite"] for row in by_photo[cell.id]],
                    cell.id in feasible,
                )
                for cell in alive
                if cell.kind == kind
            ]
            dropped += judge(runners, self.experiment.sweep.race_confidence) if runners else []
        return Stage(photos, len(alive), dropped)

    def _mine_first(self, cells: list[str]) -> list[str]:
        """Others who judge at the same moment begin elsewhere: their scores are kept when the turn comes to them."""
        mine = self._share.of(cells)
        return [*mine, *(cell for cell in cells if cell not in set(mine))]

    def _told(self, told: list[Stage], seen: dict[Cell, int]) -> dict[str, Any]:
        """The race for the report: what was dropped, when, and what it saved."""
        price = {cell.walk: cell.denoising.evaluations for cell in seen}
        photos: dict[Hashable, int] = {}
        for cell, count in seen.items():
            photos[cell.walk] = max(count, photos.get(cell.walk, 0))
        return {
            "confidence": self.experiment.sweep.race_confidence,
            "perceptual": self._scorer.perceptual.name,
            "photos": len(self.names),
            "evaluations": sum(price[walk] * count for walk, count in photos.items()),
            "exhaustive_evaluations": sum(price.values()) * len(self.names),
            "stages": [stage.row() for stage in told],
        }

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.study, self.names, self.experiment.scoring)

    def _input(self) -> Reference:
        return next(one for one in self.references if one.name == "input")

    def _require_space(self) -> None:
        """Upper bound: a race wants only its share of the pictures, which is spread over all photographs here."""
        section, originals = self.experiment.sweep, self.study.root / "test" / "original"
        sizes = {name: photo_size(originals / f"{name}.png") for name in self.names}
        missing = sum(
            math.prod(sizes[name]) * 3
            for cell in self.cells
            for name in sizes.keys() - {path.stem for path in (self.study.cells / cell.id).glob("*.png")}
        )
        share = price(len(self.names), section.race_confidence) if section.race else 1.0
        require_space(self.study.cells, int(missing * share * _BYTES_A_PIXEL), "the sweep's pictures")


def _shuffled(count: int, seed: int) -> list[int]:
    """Neighbours in a folder are often alike; the first photographs of a race should not be."""
    return [shuffled_index(place, count, "race", seed) for place in range(count)]


def _checkpoints(folder: RoundFolder) -> list[Checkpoint]:
    """The checkpoints of the round's training.

    Raises:
        DataError: a file is not the one that was trained.
    """
    rows = read_json(folder.training_done)["checkpoints"]
    for row in rows:
        file = folder.root / row["file"]
        if not file.is_file() or file_digest(file) != row["digest"]:
            state = "is not the file that was trained" if file.is_file() else "is missing"
            raise DataError(f"{file} {state}; move {folder.root} away and run the round again")
    return [Checkpoint(row["epoch"], row["digest"], folder.root / row["diffusers"]) for row in rows]


def main(arguments: list[str]) -> None:
    """Entry point of the process; what `Sweep.run` says goes to `part.json`."""
    root, experiment, number, part = arguments
    workspace, settings = Workspace(Path(root)), load_experiment(Path(experiment))
    company = company_of(workspace.study(settings.name).round(int(number)), Share.parse(part))
    with company.at_work(), torch.no_grad():
        write_json(company.own / PART_DONE, Sweep(workspace, settings, int(number), company).run())


if __name__ == "__main__":
    child_main(main)
