"""The sweep process of one round: `python -m lora_core.sweep.worker WORKSPACE EXPERIMENT ROUND ERROR_FILE`.

Inputs are encoded once. Checkpoints, the slow axis, are outermost and hot-swapped in one loaded base; photographs of a
size are denoised together; the detail returns of one denoising share it. A cell is whole or absent, so a killed sweep
goes on with the next cell.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_core.bases import base_digest
from lora_core.bases.base import Base, to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base
from lora_core.classical import CLASSICAL
from lora_core.data.pairs import pairs_digest, test_pairs
from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import read_json, require_space, value_digest, whole_folder, write_json
from lora_core.images import read_rgb, write_png
from lora_core.lora import Adapter, attach, load_lora
from lora_core.process import child_main, only_one
from lora_core.progress import progress_bar
from lora_core.randomness import torch_generator
from lora_core.restoration import Start, padded, restore_latents, return_detail, starts_of
from lora_core.sweep.grid import (
    Cell,
    Checkpoint,
    Reference,
    finished,
    grid_digest,
    make_cells,
    picture_digests,
    write_compared,
)
from lora_core.sweep.launch import sweep_digest
from lora_core.workspace import RoundFolder, StudyFolder, Workspace


@dataclass(frozen=True)
class Batch:
    """Encoded test photographs of one size.

    Attributes:
        sizes: (height, width) before padding.
        latents: of the degraded halves, float32 (batch, channels, height, width).
        dropped: x_in - D(E(x_in)) of the degraded halves, float32 pixels.
        noise: start noise, one generator a photograph.
    """

    names: list[str]
    sizes: tuple[int, int]
    latents: Tensor
    dropped: Tensor
    noise: Tensor


def sweep(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Computes every missing cell and reference of round `number`, then writes `sweep.json`."""
    torch.set_grad_enabled(False)
    study = workspace.study(experiment.name)
    folder = study.round(number)
    pairs = test_pairs(workspace, experiment)
    write_compared(study, pairs, experiment.data.test_size)
    names = [pair.name for pair in pairs]
    base = open_base(experiment.base)
    starts = starts_of(base.scheduler_config, experiment.sweep)
    plain = [(start.strength, start.steps, start.num_inference_steps, start.timesteps[0]) for start in starts]
    common = grid_digest(experiment, base_digest(experiment.base), pairs_digest(pairs, workspace))
    checkpoints = [Checkpoint(None, "base", None), *_checkpoints(folder)]
    cells = {checkpoint: make_cells(checkpoint, plain, experiment, common) for checkpoint in checkpoints}
    everything = [cell for group in cells.values() for cell in group]
    missing = [cell for cell in everything if not finished(study, cell.id)]
    pixels = sum(np.prod(read_rgb(study.root / "test" / "original" / f"{name}.png").shape) for name in names)
    require_space(study.cells, int(len(missing) * pixels * 0.8), "the sweep's pictures")
    references = _references(common)
    _save_references(study, references, names, base)
    if missing:
        batches = list(_encode(study, names, base, experiment))
        adapter = attach(base, experiment.adapter, experiment.seed, control=experiment.objective.control)
        text = _text(base, experiment)
        with progress_bar("sweep", "cell", len(everything), len(everything) - len(missing)) as bar:
            for checkpoint, group in cells.items():
                _sweep_checkpoint(study, checkpoint, group, starts, batches, adapter, text, experiment, bar)
    write_json(
        folder.sweep_done,
        {
            "digest": sweep_digest(workspace, experiment, number),
            "test": names,
            "cells": [cell.row() for cell in everything],
            "references": [one.row() for one in references],
        },
    )


def _sweep_checkpoint(
    study: StudyFolder,
    checkpoint: Checkpoint,
    cells: list[Cell],
    starts: list[Start],
    batches: list[Batch],
    adapter: Adapter,
    text: Tensor,
    experiment: Experiment,
    bar: Any,
) -> None:
    groups: dict[tuple[float, int, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        if not finished(study, cell.id):
            groups[cell.strength, cell.steps, cell.start_noise].append(cell)
    if not groups:
        return
    adapter.enable(checkpoint.folder is not None)
    if checkpoint.folder:
        adapter.load(load_lora(checkpoint.folder))
        text = _text(adapter.base, experiment)
    by_key = {(start.strength, start.steps): start for start in starts}
    for (strength, steps, noise), group in groups.items():
        pictures = _restore_all(adapter.base, batches, text, by_key[strength, steps], noise, group, experiment)
        for cell in group:
            with whole_folder(study.cells / cell.id) as temporary:
                for name, picture in pictures[cell.detail_return].items():
                    write_png(temporary / f"{name}.png", picture)
                write_json(temporary / "cell.json", {**cell.row(), "photos": picture_digests(temporary)})
            bar.update()


def _restore_all(
    base: Base,
    batches: list[Batch],
    text: Tensor,
    start: Start,
    kappa: float,
    cells: list[Cell],
    experiment: Experiment,
) -> dict[float, dict[str, np.ndarray]]:
    """Every test photograph restored from one start, by detail return and name."""
    pictures: dict[float, dict[str, np.ndarray]] = {cell.detail_return: {} for cell in cells}
    for batch in batches:
        embedding = text.repeat_interleave(len(batch.names), dim=0)
        latents = restore_latents(base, batch.latents, embedding, start, kappa, batch.noise, experiment.sweep)
        decoded = base.decode(latents)
        if not torch.isfinite(decoded).all():
            names = ", ".join(batch.names)
            raise DataError(f"the base gave values that are not finite for {names}; use base.precision=bf16 or fp32")
        for share, named in pictures.items():
            restored = to_rgb(return_detail(decoded, batch.dropped, share))
            for name, picture in zip(batch.names, restored, strict=True):
                named[name] = picture[: batch.sizes[0], : batch.sizes[1]]
    return pictures


def _encode(study: StudyFolder, names: list[str], base: Base, experiment: Experiment) -> Iterator[Batch]:
    """The degraded test photographs, encoded in batches of one size, in name order within a size."""
    by_size: dict[tuple[int, int], list[str]] = defaultdict(list)
    pictures = {name: read_rgb(study.root / "test" / "degraded" / f"{name}.png") for name in names}
    for name, picture in pictures.items():
        by_size[picture.shape[:2]].append(name)
    for size, group in by_size.items():
        for first in range(0, len(group), experiment.sweep.batch):
            chunk = group[first : first + experiment.sweep.batch]
            pixels = to_pixels(np.stack([padded(pictures[name], base.multiple) for name in chunk])).to(base.device)
            latents = base.encode(pixels)
            noise = [
                torch.randn(latents.shape[1:], generator=torch_generator("start noise", experiment.seed, name))
                for name in chunk
            ]
            yield Batch(chunk, size, latents, pixels - base.decode(latents), torch.stack(noise).to(base.device))


def _text(base: Base, experiment: Experiment) -> Tensor:
    """The prompt's embedding, behind the empty prompt's where guidance needs it; (1 or 2, tokens, width)."""
    prompts = [experiment.data.prompt] if experiment.sweep.guidance_scale == 1 else ["", experiment.data.prompt]
    return base.encode_prompt(prompts)


def _references(common: str) -> list[Reference]:
    names = ["input", "autoencoder", *CLASSICAL]
    return [
        Reference(f"reference_{name.replace(' ', '-')}_{value_digest([common, name])[:10]}", name) for name in names
    ]


def _save_references(study: StudyFolder, references: list[Reference], names: list[str], base: Base) -> None:
    for reference in references:
        if finished(study, reference.id):
            continue
        with whole_folder(study.cells / reference.id) as temporary:
            for name in names:
                half = "original" if reference.name == "autoencoder" else "degraded"
                picture = read_rgb(study.root / "test" / half / f"{name}.png")
                if reference.name == "autoencoder":
                    pixels = to_pixels(padded(picture, base.multiple)[None])
                    restored = to_rgb(base.decode(base.encode(pixels)))[0][: picture.shape[0], : picture.shape[1]]
                else:
                    restored = CLASSICAL.get(reference.name, lambda same: same)(picture)
                write_png(temporary / f"{name}.png", restored)
            write_json(temporary / "cell.json", {**reference.row(), "photos": picture_digests(temporary)})


def _checkpoints(folder: RoundFolder) -> list[Checkpoint]:
    done = read_json(folder.training_done)
    return [Checkpoint(row["epoch"], row["digest"], folder.root / row["diffusers"]) for row in done["checkpoints"]]


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    root, experiment, number = arguments
    workspace, settings = Workspace(Path(root)), load_experiment(Path(experiment))
    with only_one(workspace.study(settings.name).root / "sweep"):
        sweep(workspace, settings, int(number))


if __name__ == "__main__":
    child_main(main)
