"""The grid of a sweep as plain data: cells that know their name, in order of computation. Imports no torch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_core.denoising import Denoising
from lora_core.experiment import Experiment
from lora_core.files import value_digest

_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """A LoRA to score; the bare base has neither epoch nor folder."""

    epoch: int | None
    digest: str
    folder: Path | None


@dataclass(frozen=True)
class Cell:
    """One setting of the grid.

    Attributes:
        id: folder name under `cells/`: readable, and ending in a digest of everything that decides the pictures.
        lora_scale: strength of the LoRA; None for the bare base.
    """

    id: str
    checkpoint: Checkpoint
    lora_scale: float | None
    denoising: Denoising
    detail_return: float
    colour_fix: str

    @property
    def kind(self) -> str:
        """ "lora" or "base"."""
        return "base" if self.checkpoint.folder is None else "lora"

    @property
    def walk(self) -> Hashable:
        """What denoises it: cells of one walk differ only in what comes after the decoder."""
        return self.checkpoint, self.lora_scale, self.denoising

    def row(self) -> dict[str, Any]:
        """The cell as JSON: its columns in the tables."""
        how = self.denoising
        return {
            "id": self.id,
            "kind": self.kind,
            "epoch": self.checkpoint.epoch,
            "strength": how.start.strength,
            "start_noise": how.start_noise,
            "steps": how.start.steps,
            "num_inference_steps": how.start.num_inference_steps,
            "start_timestep": how.start.timesteps[0],
            "detail_return": self.detail_return,
            "lora_scale": self.lora_scale,
            "colour_fix": self.colour_fix,
            "sampler": how.sampler,
            "guidance_scale": how.guidance_scale,
            "seed": how.seed,
        }


@dataclass(frozen=True)
class Reference:
    """A row of the table that no LoRA made: the input, the autoencoder's round trip, a classical filter."""

    id: str
    name: str

    def row(self) -> dict[str, Any]:
        """The reference as JSON."""
        return {"id": self.id, "name": self.name, "kind": "reference"}


def grid_digest(experiment: Experiment, base_digest: str, test_digest: str) -> str:
    """sha256 over what every cell depends on, beside its own settings."""
    return value_digest(
        [_VERSION, base_digest, test_digest, experiment.seed, experiment.data.prompt, experiment.data.test_size,
         experiment.base.precision, experiment.base.quantise]
    )  # fmt: skip


def make_cells(
    checkpoints: Sequence[Checkpoint], denoisings: Sequence[Denoising], experiment: Experiment, common: str
) -> list[Cell]:
    """Every cell, the slow axis outermost: checkpoint, LoRA scale, denoising, and what comes after it.

    Args:
        common: `grid_digest`.
    """
    sweep = experiment.sweep
    return [
        Cell(_name(checkpoint, scale, how, detail, fix, common), checkpoint, scale, how, detail, fix)
        for checkpoint in checkpoints
        for scale in (sweep.lora_scales if checkpoint.folder else (None,))
        for how in denoisings
        for detail in sweep.detail_returns
        for fix in sweep.colour_fixes
    ]


def _name(checkpoint: Checkpoint, scale: float | None, how: Denoising, detail: float, fix: str, common: str) -> str:
    start = how.start
    decides = [
        common, checkpoint.digest, scale, start.strength, start.steps, start.timesteps, how.start_noise, how.sampler,
        how.guidance_scale, how.seed, detail, fix,
    ]  # fmt: skip
    shown = {"strength": start.strength, "noise": how.start_noise, "steps": start.steps, "detail": detail}
    who = "base" if checkpoint.epoch is None else f"epoch-{checkpoint.epoch:04d}"
    # The other settings are in `cell.json`: Windows counts 260 characters from the drive to the end of a file's name.
    return "_".join([who, *(f"{key}-{value:g}" for key, value in shown.items()), value_digest(decides)[:10]])
