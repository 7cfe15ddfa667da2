"""What the race finds and what it costs, against every cell seeing every photograph, on recorded grids.

    python tests/benchmarks/race.py
    python tests/benchmarks/race.py --record LORAS --photos PHOTOS

A recorded grid (`race_grids.parquet`) has the composite of each cell on each photograph, from exhaustive sweeps with
the pocket base and real LoRAs. The first command replays them: the race sees only what it asked for. The second records
those that are not there, on faded photographs as `surface.py` makes them; LORAS is the folder of LoRAs that it leaves,
PHOTOS has 26 photographs or more.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from surface import faded

from lora_core.experiment import Experiment, apply_overrides
from lora_core.files import file_digest, read_json, write_json
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.preparation import degrade_workspace, prepare
from lora_core.scoring import Scorer, composites
from lora_core.sweep.race import Runner, judge
from lora_core.sweep.stages import stages
from lora_core.workspace import Workspace

RECORDED = Path(__file__).with_name("race_grids.parquet")
PHOTOS = 24
CONFIDENCE = 0.95
GRID = [
    "sweep.strengths=[0.03, 0.06, 0.12, 0.2]", "sweep.start_noises=[0.0, 0.5]", "sweep.steps=[1, 2]",
    "sweep.detail_returns=[0.0, 0.5, 1.0]", "sweep.race=false", "data.test_size=96", "scoring.perceptual=gmsd",
]  # fmt: skip


def main() -> None:
    """Prints the table, or records its grids."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--record", type=Path, metavar="LORAS")
    options.add_argument("--photos", type=Path)
    given = options.parse_args()
    if given.record:
        there = set(pl.read_parquet(RECORDED)["grid"]) if RECORDED.exists() else set()
        for number, file in enumerate(sorted(given.record.glob("*/experiment.json"))):
            if number not in there:
                record(number, file.parent, list_photos(given.photos))
        return
    replay(pl.read_parquet(RECORDED))


def record(number: int, lora: Path, photos: list[Path]) -> None:
    """Adds one grid: other photographs and other damage for each."""
    from lora_core.share import WHOLE
    from lora_core.sweep.launch import company_of
    from lora_core.sweep.worker import Sweep

    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(Path(root))
        workspace.create()
        chosen = [photos[place] for place in np.random.default_rng(number).permutation(len(photos))[: PHOTOS + 2]]
        for place, path in enumerate(chosen):
            write_png((workspace.targets if place < 2 else workspace.test) / f"{path.stem}.png", read_rgb(path))
        trained = Experiment.model_validate(read_json(lora / "experiment.json"))
        made = apply_overrides(trained, [*GRID, f"seed={number}", "degradation.preset=pocket"])
        degrade_workspace(workspace, made)
        for twin in (*list_photos(workspace.degraded), *list_photos(workspace.test_degraded)):
            write_png(twin, faded(read_rgb(twin)))
        experiment = apply_overrides(made, ["degradation.preset=own"])
        prepare(workspace, experiment)
        study = workspace.study(experiment.name)
        write_json(study.round(0).training_done, {"checkpoints": checkpoints_of(lora)})
        company = company_of(study.round(0), WHOLE)
        with company.at_work():
            done = Sweep(workspace, experiment, 0, company).run()
        assert done is not None, "another process took part"
        rows = scored(workspace, experiment, done)
    table = pl.DataFrame(rows).with_columns(pl.lit(number, pl.Int8).alias("grid"), pl.col("composite").cast(pl.Float32))
    known = [pl.read_parquet(RECORDED).filter(pl.col("grid") != number)] if RECORDED.exists() else []
    pl.concat([*known, table.select("grid", "cell", "kind", "denoising", "steps", "photo", "composite")]).sort(
        "grid", "cell", "photo"
    ).write_parquet(RECORDED, compression="zstd", compression_level=19)
    print(f"grid {number}: {lora.name}, {len({row['cell'] for row in rows})} cells", flush=True)


def checkpoints_of(lora: Path) -> list[dict[str, object]]:
    """What `training/done.json` says of the folder's checkpoints."""
    found = []
    for place, folder in enumerate(sorted(path for path in lora.glob("epoch-*") if path.is_dir())):
        digest = file_digest(folder / "pytorch_lora_weights.safetensors")
        file = str((folder / "pytorch_lora_weights.safetensors").absolute())
        found.append({"epoch": place + 1, "digest": digest, "file": file, "diffusers": str(folder.absolute())})
    return found


def scored(workspace: Workspace, experiment: Experiment, done: dict[str, Any]) -> list[dict[str, object]]:
    """Composites by cell and photograph, in the order of the race."""
    study, names, section = workspace.study(experiment.name), done["test"], experiment.scoring
    scorer = Scorer(study, names, section)
    start = next(row["id"] for row in done["references"] if row["name"] == "input")
    inputs = {row["photo"]: row for row in scorer.rows(start, names)}
    scores = scorer.many([row["id"] for row in done["cells"]], names)
    rows: list[dict[str, object]] = []
    walks: dict[tuple[object, ...], int] = {}
    for place, cell in enumerate(done["cells"]):
        walk = tuple(cell[key] for key in ("epoch", "strength", "start_noise", "steps"))
        common = {"cell": place, "kind": cell["kind"], "steps": cell["steps"]}
        common["denoising"] = walks.setdefault(walk, len(walks))
        made = composites(scores[cell["id"]], inputs, section)
        rows += [{**common, "photo": photo, "composite": value} for photo, value in enumerate(made)]
    return rows


def replay(grids: pl.DataFrame) -> None:
    """The race on every grid."""
    print("$ python tests/benchmarks/race.py\n")
    print(f"Recorded grids of the pocket base, {PHOTOS} photographs each, confidence {CONFIDENCE}\n")
    print("grid  cells  winner's composite       lost      denoiser evaluations      share")
    print("             exhaustive   race                  race   exhaustive")
    near, shares = 0, []
    for number in sorted(grids["grid"].unique()):
        best, found, cost, whole = race(grids.filter(pl.col("grid") == number))
        cells = grids.filter(pl.col("grid") == number)["cell"].n_unique()
        lost = (best - found) / abs(best)
        near += lost <= 0.005
        shares.append(cost / whole)
        counted = f"{cost:9d}  {whole:11d}  {cost / whole:7.1%}"
        print(f"{number:4d}  {cells:5d}  {best:10.3f}  {found:6.3f}  {lost:8.2%}  {counted}")
    print(f"\nwinner, or one within 0.5 %   {near} of {len(shares)}   goal: 9 of 10")
    print(f"share of the evaluations     {max(shares):.1%} at most   goal: 33.3 %")


def race(grid: pl.DataFrame) -> tuple[float, float, int, int]:
    """Best composite of the grid and of the race, evaluations of the race and of the grid."""
    wide = grid.pivot(on="photo", index=["cell", "kind", "denoising", "steps"], values="composite").sort("cell")
    scores = wide.select(str(photo) for photo in range(PHOTOS)).to_numpy().astype(float)
    about = wide.select("kind", "denoising", "steps").to_dicts()
    alive, cost, before = set(range(len(scores))), 0, 0
    for end in stages(PHOTOS, CONFIDENCE):
        walks = {about[cell]["denoising"]: about[cell]["steps"] for cell in alive}
        cost += sum(walks.values()) * (end - before)
        before = end
        if end < PHOTOS:
            for kind in ("lora", "base"):
                runners = [
                    Runner(str(cell), about[cell]["denoising"], about[cell]["steps"], list(scores[cell, :end]))
                    for cell in sorted(alive)
                    if about[cell]["kind"] == kind
                ]
                alive -= {int(one.id) for one in judge(runners, CONFIDENCE)}
    loras = [cell for cell, row in enumerate(about) if row["kind"] == "lora"]
    means = scores.mean(axis=1)
    every = {row["denoising"]: row["steps"] for row in about}
    found = max((cell for cell in loras if cell in alive), key=lambda cell: means[cell])
    return max(means[loras]), means[found], cost, sum(every.values()) * PHOTOS


if __name__ == "__main__":
    main()
