"""A synthetic study: the files that a finished experiment leaves, with pictures that are really scored."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from scipy import stats

from lora_core import metrics
from lora_core.experiment import Experiment, load_preset, save_experiment, with_values
from lora_core.files import write_json, write_text
from lora_core.images import read_rgb, write_png
from lora_core.randomness import numpy_generator
from lora_core.scoring.tables import SETTINGS
from lora_core.workspace import RoundFolder, Workspace

HOSTILE = "<img src=x onerror=alert(1)>"
EPOCHS = (5, 10, 15)
STRENGTHS = (0.05, 0.2, 0.5)
RATES = (1e-3, 3e-4, 6e-4)
PRUNED = "After 960 images its validation loss was 0.31, above the base's own 0.2."
Row = dict[str, Any]


@dataclass
class Study:
    """Writes a study's files as the loop leaves them, `quality` being how well its LoRAs restore (below 0: harm)."""

    workspace: Workspace
    experiment: Experiment
    pictures: dict[str, np.ndarray]
    quality: float = 1.0
    _degraded: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.workspace.study(self.experiment.name).root

    def degraded(self, photo: str) -> np.ndarray:
        if photo in self._degraded:
            return self._degraded[photo]
        clean = self.pictures[photo]
        noise = numpy_generator("degraded", photo).normal(0, 9, clean.shape)
        self._degraded[photo] = np.clip(cv2.GaussianBlur(clean, (0, 0), 1.6) + noise, 0, 255).round().astype(np.uint8)
        return self._degraded[photo]

    def restored(self, photo: str, quality: float) -> np.ndarray:
        """Part of the way from degraded to clean, less for the photographs that come later."""
        share = quality * (0.62 - 0.5 * list(self.pictures).index(photo) / len(self.pictures))
        degraded = self.degraded(photo).astype(np.float64)
        return np.clip(degraded + share * (self.pictures[photo] - degraded), 0, 255).round().astype(np.uint8)

    def write_pictures(self) -> None:
        for photo, clean in self.pictures.items():
            write_png(self.root / "test" / "original" / f"{photo}.png", clean)
            write_png(self.root / "test" / "degraded" / f"{photo}.png", self.degraded(photo))

    def write_round(self, number: int, changes: Row, progress: float, reason: str) -> None:
        """A round whose best LoRA goes `progress` of the way that `quality` allows; the winner is really scored.

        The other rows are drawn between the input's scores and the winner's, photograph by photograph. With four
        photographs or more a race drops the worse half after half of them.
        """
        folder = RoundFolder(self.root / f"round-{number:03d}")
        cells = [self._cell(number, *place) for place in self._grid()]
        winner = max((cell for cell in cells if cell["kind"] == "lora"), key=lambda cell: cell["share"])
        source = self._photo_rows("input", 0.0)
        won, good = self._photo_rows(winner["id"], progress * self.quality), self._photo_rows("good", 1.0)
        race = self._race(cells, winner)
        by_photo: dict[str, list[Row]] = {}
        rows = []
        for row in [*(self._reference(name, share) for name, share in _REFERENCES.items()), *cells]:
            goal, share = (won, row["share"] / winner["share"]) if row["kind"] == "lora" else (good, row["share"])
            if goal is won and self.quality < 0:
                share = 2 - share  # where every LoRA does harm, the best does the least
            seen = race["seen"].get(row["id"], len(self.pictures))
            by_photo[row["id"]] = self._between(row, source, goal, share, row is winner)[:seen]
            rows.append(self._table_row(row, by_photo[row["id"]], source[:seen], source))
        shown = [row for row in rows if row["kind"] != "reference" and row["dropped_after"] is None]
        shown.sort(key=lambda row: (row["id"] != winner["id"], -row["composite"]))
        for row in [*shown[:8], *(row for row in shown if row["kind"] == "base"), *rows[: len(_REFERENCES)]]:
            self._write_pictures_of(row, winner["id"], progress)
        save_experiment(with_values(self.experiment, changes), folder.experiment)
        pl.DataFrame(rows, schema=_SCHEMA).write_parquet(folder.table, metadata=metrics.CONVENTIONS)
        pl.DataFrame([one for of_cell in by_photo.values() for one in of_cell]).write_parquet(folder.photo_table)
        self._write_training(folder, number, changes)
        result = self._write_result(folder, number, changes, reason, rows, winner["id"], race["told"])
        self._write_degradations(folder, result)

    def write_pruned(self, number: int, changes: Row) -> None:
        """A round that was stopped early: a log, and a manifest without a winner."""
        folder = RoundFolder(self.root / f"round-{number:03d}")
        save_experiment(with_values(self.experiment, changes), folder.experiment)
        self._write_training(folder, number, changes)
        result = {
            "round": number, "digest": f"{number}a" * 32, "base_digest": "b7" * 32, "dataset_digest": "d0" * 32,
            "test_digest": "7e" * 32,
            "changes": changes, "reason": "a higher rate, to see where it ends",
            **dict.fromkeys(("winner", "input", "base", "classical", "autoencoder", "perceptual", "race")),
            "beats": {}, "diagnosis": [], "advice": ["Halve the learning rate."], "constraints": [],
            "pruned": True, "pruned_because": PRUNED,
        }  # fmt: skip
        write_json(folder.result, result)

    def _grid(self) -> Iterator[tuple[int | None, float, float, int, float]]:
        sweep = self.experiment.sweep
        return itertools.product((None, *EPOCHS), STRENGTHS, sweep.start_noises, sweep.steps, sweep.detail_returns)

    def _cell(self, number: int, epoch: int | None, strength: float, noise: float, steps: int, detail: float) -> Row:
        closeness = math.exp(-((math.log(strength / 0.2) / 1.1) ** 2)) * (1 - 0.5 * abs(detail - 0.5))
        share = (0.4 + 0.04 * (epoch or 0) - 0.0011 * (epoch or 0) ** 2) * closeness if epoch else -0.4 * strength
        share -= 0.7 * noise * (0.3 + strength) + 0.15 * (1 - detail)
        kind = "lora" if epoch else "base"
        return {
            "id": f"{kind}-{number if epoch else 0}-{epoch}-{strength}-{noise}-{steps}-{detail}",
            "kind": kind,
            "name": f"epoch {epoch}" if epoch else "base without LoRA",
            "epoch": epoch,
            "strength": strength,
            "start_noise": noise,
            "steps": steps,
            "num_inference_steps": math.ceil(steps / strength),
            "start_timestep": int(strength * 1000) - 1,
            "detail_return": detail,
            "lora_scale": 1.0 if epoch else None,
            "colour_fix": "none",
            "sampler": "ddim",
            "guidance_scale": 1.0,
            "seed": 0,
            "share": share,
        }

    def _reference(self, name: str, share: float) -> Row:
        return {"id": name, "kind": "reference", "name": name, **dict.fromkeys(SETTINGS), "share": share}

    def _race(self, cells: list[Row], winner: Row) -> Row:
        """`seen` photographs by dropped cell, and the race as the sweep tells it."""
        half, whole = len(self.pictures) // 2, len(self.pictures)
        if whole < 4:
            return {"seen": {}, "told": None}
        lora = sorted((cell for cell in cells if cell["kind"] == "lora"), key=lambda cell: -cell["share"])
        out = lora[len(lora) // 2 :]
        dropped = [
            {
                "id": cell["id"],
                "rival": winner["id"],
                "difference": cell["share"] - winner["share"],
                "p": 0.03 / (1 + at),
                "why": "worse" if at else "outranked",
            }
            for at, cell in enumerate(out)
        ]
        stages = [
            {"photos": half, "cells": len(cells), "dropped": dropped},
            {"photos": whole, "cells": len(cells) - len(out), "dropped": []},
        ]
        made = half * len(out) + whole * (len(cells) - len(out))
        told = {"confidence": 0.95, "photos": whole, "evaluations": made, "exhaustive_evaluations": whole * len(cells)}
        return {"seen": {cell["id"]: half for cell in out}, "told": told | {"stages": stages}}

    def _between(self, row: Row, source: list[Row], goal: list[Row], share: float, winner: bool) -> list[Row]:
        """Scores of each photograph, `share` of the way from the input to the goal, give or take."""
        wiggle = numpy_generator("wiggle", row["id"]).normal(0, 0.0 if winner or row["id"] == "input" else 0.12, 99)
        turn = 1.0 if winner else 0.85 + 0.9 * (row["start_noise"] or 0) + 0.5 * (row["strength"] or 0)
        distance = float(np.mean([one["perceptual"] for one in source]))
        rows = []
        for one, end, chance in zip(source, goal, wiggle, strict=False):
            shares = {key: (share + chance) * (turn if key == "perceptual" else 1) for key in _SCORES}
            scores = {key: one[key] + shares[key] * (end[key] - one[key]) for key in _SCORES}
            gains = _gains(scores, one, distance)
            rows.append({"id": row["id"], "photo": one["photo"]} | scores | {"composite": gains["composite"]})
        return rows

    def _table_row(self, row: Row, own: list[Row], start: list[Row], source: list[Row]) -> Row:
        scores, before = _means(own), _means(start)
        points = np.array([one["composite"] for one in own])
        error = 1.96 * points.std() / len(points) ** 0.5
        raced = len(own) < len(source)
        return {
            **{key: row[key] for key in row if key != "share"},
            **scores,
            **_gains(scores, before, _means(source)["perceptual"]),
            "photos": len(own),
            "dropped_after": len(own) if raced else None,
            "perceptual_name": "GMSD",
            "composite_low": points.mean() - error,
            "composite_high": points.mean() + error,
            "p_input": float(stats.wilcoxon(points, alternative="greater").pvalue) if points.any() else None,
            "p_champion": 0.04 if row["kind"] == "lora" and not raced else None,
            "feasible": row["name"] != "epoch 5" or row["strength"] != 0.5,
            "ms_ssim": 0.9,
        }

    def _write_pictures_of(self, row: Row, winner: str, progress: float) -> None:
        """The winner's pictures are those that were scored; the others' are as good as their number says."""
        share = progress * self.quality if row["id"] == winner else 0.3 * row["composite"]
        for photo in self.pictures if row["name"] not in ("input", "autoencoder") else ():
            write_png(self.root / "cells" / row["id"] / f"{photo}.png", self.restored(photo, share))

    def _photo_rows(self, cell: str, quality: float) -> list[Row]:
        rows = []
        for photo, clean in self.pictures.items():
            picture = self.restored(photo, quality)
            rows.append(
                {
                    "id": cell,
                    "photo": photo,
                    "psnr_y": metrics.psnr_y(picture, clean),
                    "psnr_rgb": metrics.psnr_rgb(picture, clean),
                    "ssim_y": metrics.ssim_y(picture, clean),
                    "ssim_rgb": metrics.ssim_rgb(picture, clean),
                    "perceptual": metrics.gmsd(picture, clean),
                }
            )
        return rows

    def _write_degradations(self, folder: RoundFolder, result: Row) -> None:
        rows = []
        for name in ("winner", "base", "classical"):
            for at, operation in enumerate(("blur", "Gaussian noise", "JPEG", "downsampling")):
                for step, level in enumerate(("weak", "medium", "strong", "all")):
                    if (at, level) == (3, "strong"):
                        continue  # no photograph has it
                    gains = {key: result[name][key] for key in _GAINS}
                    gains["composite"] -= 0.7 * at - 0.2 * (step % 3)
                    count = len(self.pictures) if level == "all" else max(1, len(self.pictures) // 3)
                    where = {"id": result[name]["id"], "name": result[name]["name"], "operation": operation}
                    rows.append(where | {"level": level, "photos": count} | gains)
        pl.DataFrame(rows).write_parquet(folder.degradation_table)

    def _write_training(self, folder: RoundFolder, number: int, changes: Row) -> None:
        rate = changes.get("training.learning_rate", self.experiment.training.learning_rate)
        draw = numpy_generator("loss", number)
        lines = []
        for update in range(1, 301):
            loss = (0.03 + 0.14 * math.exp(-update / (30 + 20 * number))) * math.exp(draw.normal(0, 0.22))
            warm = min(1.0, update / 15) * (0.5 + 0.5 * math.cos(math.pi * update / 300))
            line = {"images": 48 * update, "epoch": update / 20, "update": update}
            lines.append(json.dumps(line | {"loss": loss, "learning_rate": rate * warm}))
        write_text(folder.train_log, "\n".join(lines) + '\n{"images": 144')
        name = self.experiment.name
        checkpoints = [
            {
                "epoch": epoch,
                "file": f"checkpoints/{name}-{epoch:06d}.safetensors",
                "kohya": f"checkpoints/{name}-{epoch:06d}.safetensors",
                "diffusers": f"checkpoints/{name}-{epoch:06d}",
                "digest": f"{number}{epoch:02d}" * 21 + "f",
            }
            for epoch in EPOCHS
        ]
        losses = [0.2 * (0.4 + 0.6 * math.exp(-epoch / (4 + number))) for epoch in range(16)]
        validations = [{"images": 960 * epoch, "epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)]
        reading = ["Validation loss 0.085 at epoch 15, 57% below the base's 0.2.", "It is still falling."]
        done = {
            "images": 14400, "epochs": 15, "stopped": "complete", "photos": 96, "checkpoints": checkpoints,
            "validations": validations, "reading": reading,
        }  # fmt: skip
        for epoch, photo in itertools.product(EPOCHS, sorted((self.root / "test" / "degraded").glob("*.png"))[:1]):
            write_png(folder.samples / f"epoch-{epoch:06d}" / photo.name, read_rgb(photo))
        write_json(folder.training_done, done)

    def _write_result(
        self,
        folder: RoundFolder,
        number: int,
        changes: Row,
        reason: str,
        rows: list[Row],
        winner: str,
        race: Row | None,
    ) -> Row:
        by_name = {row["name"]: row for row in rows if row["kind"] == "reference"}
        best = next(row for row in rows if row["id"] == winner)
        base = max((row for row in rows if row["kind"] == "base"), key=lambda row: row["composite"])
        classical = max((by_name[name] for name in _CLASSICAL), key=lambda row: row["composite"])
        rivals = {"input": by_name["input"], "classical": classical, "base": base}
        result = {
            "round": number,
            "digest": f"{number}a" * 32,
            "base_digest": "b7" * 32,
            "dataset_digest": "d0" * 32,
            "test_digest": "7e" * 32,
            "changes": changes,
            "reason": reason,
            "winner": best,
            **rivals,
            "autoencoder": by_name["autoencoder"],
            "perceptual": {"name": "GMSD", "reason": "GMSD instead of LPIPS: AlexNet weights are not in the cache."},
            "beats": {name: best["composite"] > rival["composite"] for name, rival in rivals.items()},
            "diagnosis": [
                {
                    "code": "still-improving",
                    "says": "The last checkpoint is the best one and 0.21 points ahead of the one before.",
                    "advice": {"training.epochs": {"low": 15, "high": 30}, "objective.kind": {"choices": ["bridge"]}},
                }
            ],
            "race": race,
            "constraints": [],
            "advice": ["Train longer: at 15 epochs the validation loss still fell by 2 % an epoch."],
            "pruned": False,
            "pruned_because": None,
        }
        write_json(folder.result, result)
        return result


_REFERENCES = {"input": 0.0, "autoencoder": 1.3, "non-local means": 0.2, "bilateral": 0.1, "unsharp mask": -0.2}
_CLASSICAL = ("non-local means", "bilateral", "unsharp mask")
_SCORES = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")
_GAINS = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual", "composite")
_SCHEMA = {
    **dict.fromkeys(("id", "kind", "name"), pl.String),
    **SETTINGS,
    **dict.fromkeys(_SCORES, pl.Float64),
    **dict.fromkeys(_GAINS, pl.Float64),
    **dict.fromkeys(("photos", "dropped_after"), pl.Int64),
    "perceptual_name": pl.String,
    **dict.fromkeys(("composite_low", "composite_high", "p_input", "p_champion"), pl.Float64),
    "feasible": pl.Boolean,
    "ms_ssim": pl.Float64,
}


def _means(rows: list[Row]) -> Row:
    return {score: float(np.mean([row[score] for row in rows])) for score in _SCORES}


def _gains(row: Row, source: Row, mean_distance: float) -> Row:
    psnr, ssim = row["psnr_y"] - source["psnr_y"], row["ssim_y"] - source["ssim_y"]
    distance = (source["perceptual"] - row["perceptual"]) / mean_distance
    composite = (psnr + ssim / 0.04 + distance / 0.1) / 3
    return {"gain_psnr_y": psnr, "gain_ssim_y": ssim, "gain_perceptual": distance, "composite": composite}


def make_study(
    root: Path,
    photos: Path,
    *,
    name: str = "study",
    quality: float = 1.0,
    rounds: int = 3,
    limit: int = 6,
    pruned: int = 0,
) -> Study:
    """Writes a whole study of the first `limit` photographs of a folder; the first gets a hostile name.

    Args:
        rounds: how many are scored.
        pruned: how many after them are stopped early.
    """
    files = sorted(photos.iterdir())[:limit] if limit else []
    pictures = {(HOSTILE if at == 0 else file.stem): read_rgb(file) for at, file in enumerate(files)}
    grid = {"sweep.strengths": STRENGTHS, "sweep.start_noises": (0.0, 0.5), "sweep.detail_returns": (0.0, 0.5, 1.0)}
    experiment = with_values(load_preset("pocket"), {**grid, "name": name})
    study = Study(Workspace(root), experiment, pictures, quality)
    study.write_pictures()
    for number in range(rounds):
        rank = (32, 16, 64, 32)[number % 4]
        changes = {"training.learning_rate": RATES[number % 3], "adapter.rank": rank} if number else {}
        reason = "the experiment as given" if not number else "a lower rate, because the loss of round 0 jumped"
        study.write_round(number, changes, 1.1 - 0.9 / (number + 2) - 0.1 * (number % 3 == 2), reason)
    for number in range(rounds, rounds + pruned):
        study.write_pruned(number, {"training.learning_rate": 0.05, "adapter.rank": 16})
    return study
