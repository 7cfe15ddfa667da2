"""The grid of a sweep as plain data: cells that know their name, in order of computation. Imports no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_core.data.pairs import Pair
from lora_core.experiment import Experiment
from lora_core.files import file_digest, read_json, value_digest
from lora_core.images import read_rgb, write_png
from lora_core.workspace import StudyFolder

_VERSION = 1


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
    """

    id: str
    kind: str
    epoch: int | None
    strength: float
    start_noise: float
    steps: int
    num_inference_steps: int
    start_timestep: int
    detail_return: float

    def row(self) -> dict[str, Any]:
        """The cell as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """A row of the table that no LoRA made: the input, the autoencoder's round trip, a classical filter."""

    id: str
    name: str
    kind: str = "reference"

    def row(self) -> dict[str, Any]:
        """The reference as JSON."""
        return asdict(self)


def grid_digest(experiment: Experiment, base_digest: str, test_digest: str) -> str:
    """sha256 over what every cell depends on, beside its own settings."""
    sweep = experiment.sweep
    return value_digest(
        [_VERSION, base_digest, test_digest, experiment.seed, experiment.data.prompt, experiment.data.test_size,
         experiment.base.precision, experiment.base.quantise, sweep.sampler, sweep.timestep_spacing,
         sweep.guidance_scale]
    )  # fmt: skip


def make_cells(
    checkpoint: Checkpoint, starts: list[tuple[float, int, int, int]], experiment: Experiment, common: str
) -> list[Cell]:
    """The cells of one checkpoint.

    Args:
        starts: (strength, steps, num_inference_steps, start_timestep) of each start.
        common: `grid_digest`.
    """
    cells = []
    for strength, steps, total, timestep in starts:
        for noise in experiment.sweep.start_noises:
            for detail in experiment.sweep.detail_returns:
                digest = value_digest([common, checkpoint.digest, strength, steps, noise, detail])[:10]
                who = "base" if checkpoint.epoch is None else f"epoch-{checkpoint.epoch:04d}"
                name = f"{who}_strength-{strength:g}_noise-{noise:g}_steps-{steps}_detail-{detail:g}_{digest}"
                kind = "base" if checkpoint.epoch is None else "lora"
                cells.append(Cell(name, kind, checkpoint.epoch, strength, noise, steps, total, timestep, detail))
    return cells


def finished(study: StudyFolder, cell_id: str) -> bool:
    """Whether a cell's manifest, which is written last, and all its pictures are there."""
    folder = study.cells / cell_id
    if not (folder / "cell.json").exists():
        return False
    return all((folder / f"{name}.png").exists() for name in read_json(folder / "cell.json")["photos"])


def write_compared(study: StudyFolder, pairs: list[Pair], size: int | None) -> None:
    """Writes what every score compares with: `test/original/` and `test/degraded/`, centre-cropped to `size`."""
    for pair in pairs:
        for half, source in (("original", pair.clean), ("degraded", pair.degraded)):
            target = study.root / "test" / half / f"{pair.name}.png"
            picture = centre_crop(read_rgb(source), size)
            if not target.exists() or (read_rgb(target) != picture).any():
                write_png(target, picture)


def centre_crop(picture: Any, size: int | None) -> Any:
    """The middle (size, size, 3) of a picture, or all of a side that is shorter."""
    if size is None:
        return picture
    top, left = (max(0, (side - size) // 2) for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def picture_digests(folder: Path) -> dict[str, str]:
    """sha256 of each picture in a cell's folder, by name without suffix."""
    return {path.stem: file_digest(path) for path in sorted(folder.glob("*.png"))}
