"""Records a surface to replay: what many short trainings of the pocket base score on real photographs.

    python tests/benchmarks/surface.py record --train TRAIN --test TEST --work WORK [--part 0 --parts 2] [--loras LORAS]
    python tests/benchmarks/surface.py collect --work WORK --out tests/benchmarks/surface.parquet

Every combination of `GRID` is trained once at a constant learning rate, so that the checkpoint after e epochs *is* the
training of e epochs, and every checkpoint in `EPOCHS` restores the test photographs at the settings of a small sweep.
A point's composite is that of its best setting, as a round's is. The photographs are degraded by the preset `pocket`
and then *faded* (less contrast, a warm cast, lifted blacks), as an old print is: the shipped base was made for the
preset itself, so that a short LoRA has little to add to it, but knows nothing of fading. Trainings that are there are
not repeated; several parts may run at once. `collect` writes the points to one table, with the bare base and the
losses; a grid that is not whole is cut to the learning rates that are.
"""

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lora_core.bases import base_digest
from lora_core.bases.base import Base, in_evaluation, to_rgb
from lora_core.data.pairs import Pair, test_pairs, training_pairs
from lora_core.experiment import Experiment, load_experiment, with_values
from lora_core.files import whole_file, write_json
from lora_core.formats.metadata import training_metadata
from lora_core.images import centre_crop, list_photos, read_rgb, write_png
from lora_core.lora import save_lora
from lora_core.perceptual import choose_perceptual
from lora_core.preparation import create_workspace, degrade_workspace, prepare
from lora_core.randomness import shuffled_index
from lora_core.restoration import denoisings_of, restore_latents, return_detail
from lora_core.scoring import composites, score_pair
from lora_core.sweep.inputs import Input, encode_inputs
from lora_core.training.loop import Hooks
from lora_core.training.setup import SetUp, open_accelerator, set_up
from lora_core.workspace import Workspace

GRID: dict[str, tuple[Any, ...]] = {
    "training.learning_rate": (5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2, 2.56e-2),
    "adapter.rank": (4, 16, 64),
    "adapter.layers": ("attention", "attention-ff", "all"),
}
EPOCHS = (1, 2, 4, 8)
SETTINGS = (
    "data.resolution=64", "data.views=8", "data.test_size=96", "training.scheduler=constant", "training.warmup=0",
    "training.epochs=8", "training.checkpoint_every=1", "training.batch=8", "training.keep_best=false",
    "training.ema=40", "training.state_every=1000000", "sweep.strengths=[0.1,0.3]", "sweep.detail_returns=[0.5,1.0]",
    "monitoring.samples=0", "monitoring.trackers=[]", "scoring.perceptual=gmsd",
)  # fmt: skip
TRAIN_PHOTOS, TEST_PHOTOS = 80, 10
BLACK, WHITE = (52, 44, 40), (226, 208, 172)
"""RGB of black and white on a faded print."""
EVERY_LORA = 6
"""One training in so many leaves its LoRAs."""


def main() -> None:
    """Records a part of the surface, or collects the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["record", "collect"])
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--loras", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.verb == "collect":
        collect(options.work, options.out)
        return
    work = options.work / f"part-{options.part}"
    workspace = Workspace(work)
    if not workspace.experiment.exists():
        train, test = first(options.train, work, TRAIN_PHOTOS), first(options.test, work, TEST_PHOTOS)
        create_workspace(work, "pocket", train, test, assignments=[*SETTINGS, "name=surface"])
        workspace.targets.rename(workspace.targets.with_name("1_targets"))
        degrade_workspace(workspace, load_experiment(workspace.experiment))
        for twin in (*list_photos(workspace.degraded), *list_photos(workspace.test_degraded)):
            write_png(twin, faded(read_rgb(twin)))
    experiment = with_values(load_experiment(workspace.experiment), {"degradation.preset": "own"})
    prepare(workspace, experiment)
    recorder = Recorder(workspace, experiment, work / "points.jsonl", options.loras)
    # The slowest learners last, so that a recording that is stopped early is a whole grid of the others.
    slow = lambda one: one[1]["training.learning_rate"] < 2e-4  # noqa: E731
    for place, values in sorted(enumerate(combinations()), key=slow):
        if place % options.parts == options.part:
            recorder.record(place, values)


def first(folder: Path, work: Path, count: int) -> Path:
    """A folder with links to the first photographs by name."""
    chosen = work / f"first-of-{folder.name}"
    chosen.mkdir(parents=True, exist_ok=True)
    for photo in list_photos(folder)[:count]:
        if not (chosen / photo.name).exists():
            (chosen / photo.name).symlink_to(photo.resolve())
    return chosen


def faded(rgb: np.ndarray) -> np.ndarray:
    """An old print: blacks lifted, whites dulled, blue most; (height, width, 3) uint8."""
    return (np.array(BLACK) + rgb / 255 * (np.array(WHITE) - np.array(BLACK))).round().astype(np.uint8)


def combinations() -> list[dict[str, Any]]:
    """Every combination of the grid, in an order in which any beginning is spread over it."""
    grid = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    return [grid[shuffled_index(place, len(grid), "surface")] for place in range(len(grid))]


@dataclass
class Recorder:
    """Trains and scores; every finished training is a few lines of `points`."""

    workspace: Workspace
    experiment: Experiment
    points: Path
    loras: Path | None
    known: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = training_pairs(self.workspace, self.experiment)
        self.tests = test_pairs(self.workspace, self.experiment)
        self.digest = base_digest(self.experiment.base)
        self.accelerator = open_accelerator(self.experiment)
        if self.points.exists():
            self.known = [json.loads(line) for line in self.points.read_text().splitlines()]

    @torch.no_grad()
    def record(self, place: int, values: dict[str, Any]) -> None:
        """One training and the scores of its checkpoints."""
        if any(point["place"] == place for point in self.known):
            return
        started, experiment = time.monotonic(), with_values(self.experiment, values)
        made = set_up(self.workspace, experiment, self.pairs, self.accelerator, self.digest, str(place))
        judge = Judge(experiment, made.run.adapter.base, self.tests, made)
        base_loss, rows = made.base_loss(), []
        made.run.state.validations.append({"update": 0, "images": 0, "epoch": 0.0, "loss": base_loss})
        if not self.known:
            with made.run.adapter.disabled():
                rows.append({"place": -1, "epochs": 0, "loss": 1.0, **judge.best()})

        def checkpoint(epoch: int) -> None:
            if epoch in EPOCHS:
                loss = made.run.state.validations[-1]["loss"] / base_loss
                rows.append({"place": place, **values, "epochs": epoch, "loss": loss, **judge.best()})
                self._save(made, experiment, place, epoch)

        made.run.fit(Hooks(lambda *_: None, lambda _: None, checkpoint, lambda: None))
        seconds = time.monotonic() - started
        with self.points.open("a") as file:
            file.write("".join(json.dumps({**row, "seconds": seconds}) + "\n" for row in rows))
        self.known += rows
        print(place, values, [round(row["composite"], 3) for row in rows], f"{seconds:.1f} s", flush=True)

    def _save(self, made: SetUp, experiment: Experiment, place: int, epoch: int) -> None:
        if self.loras is None or place % EVERY_LORA:
            return
        folder = self.loras / f"training-{place:03d}"
        steps = made.run.state.updates
        save_lora(
            made.run.adapter,
            folder / f"epoch-{epoch:06d}",
            training_metadata(replace(made.facts, epoch=epoch, steps=steps)),
        )
        write_json(folder / "experiment.json", experiment.model_dump(mode="json"))


class Judge:
    """Restores the test photographs with the weights in place at every setting of the sweep."""

    def __init__(self, experiment: Experiment, base: Base, tests: list[Pair], made: SetUp) -> None:
        self.experiment, self.base = experiment, base
        size = experiment.data.test_size
        halves = {
            pair.name: [centre_crop(read_rgb(half), size) for half in (pair.clean, pair.degraded)] for pair in tests
        }
        self.originals = {name: clean for name, (clean, _) in halves.items()}
        self.perceptual = choose_perceptual(experiment.scoring)
        base.vae.to(base.device)
        self.inputs: list[Input] = encode_inputs(base, {name: degraded for name, (_, degraded) in halves.items()}, 8)
        self.scores = {name: self._scored("input", name, degraded) for name, (_, degraded) in halves.items()}
        self.text: Tensor = made.texts(["", experiment.data.prompt])()
        self.denoisings = denoisings_of(base.scheduler_config, experiment.sweep)

    @torch.no_grad()
    def best(self) -> dict[str, Any]:
        """The setting with the highest mean composite."""
        found: list[dict[str, Any]] = []
        with in_evaluation(self.base):
            for how in self.denoisings:
                degraded = torch.stack([one.latents for one in self.inputs])
                latents = restore_latents(
                    self.base, degraded, self.text, [how] * len(degraded), torch.zeros_like(degraded)
                )
                decoded = self.base.decode(latents)
                for share in self.experiment.sweep.detail_returns:
                    pictures = to_rgb(return_detail(decoded, torch.stack([one.dropped for one in self.inputs]), share))
                    rows = [
                        self._scored("cell", one.name, picture)
                        for one, picture in zip(self.inputs, pictures, strict=True)
                    ]
                    points = composites(rows, self.scores, self.experiment.scoring)
                    mean = sum(points) / len(points)
                    found.append({"composite": mean, "strength": how.start.strength, "detail_return": share})
        return max(found, key=lambda row: row["composite"])

    def _scored(self, cell: str, name: str, picture: Any) -> dict[str, Any]:
        return {"id": cell, "photo": name, **score_pair(picture, self.originals[name], self.perceptual)}


def collect(work: Path, out: Path) -> None:
    """Writes the points of all parts to one table; the bare base, measured by each part, stands once."""
    lines = [
        json.loads(line) for file in sorted(work.glob("part-*/points.jsonl")) for line in file.read_text().splitlines()
    ]
    rows = {(row["place"], row["epochs"]): {key: row.get(key) for key in COLUMNS} for row in lines}
    table = pl.DataFrame(list(rows.values()), schema=COLUMNS, orient="row").sort(*COLUMNS)
    rate, points = "training.learning_rate", len(EPOCHS) * len(GRID["adapter.rank"]) * len(GRID["adapter.layers"])
    table = table.filter(pl.col(rate).is_null() | (pl.len().over(rate) == points))
    with whole_file(out) as path:
        table.write_parquet(path)
    print(f"{len(table)} points, {out.stat().st_size / 1024:.0f} KiB")


COLUMNS: dict[str, Any] = {
    "training.learning_rate": pl.Float64,
    "adapter.rank": pl.Int64,
    "adapter.layers": pl.String,
    "epochs": pl.Int64,
    "composite": pl.Float64,
    "strength": pl.Float64,
    "detail_return": pl.Float64,
    "loss": pl.Float64,
    "seconds": pl.Float64,
}


if __name__ == "__main__":
    main()
