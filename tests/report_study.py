"""A synthetic study: the files that a finished experiment leaves, with pictures that are really scored."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from lora_core import metrics
from lora_core.experiment import Experiment, load_preset, save_experiment, with_values
from lora_core.files import write_json, write_text
from lora_core.images import read_rgb, write_png
from lora_core.randomness import numpy_generator
from lora_core.workspace import RoundFolder, Workspace

HOSTILE = "<img src=x onerror=alert(1)>"
EPOCHS = (5, 10, 15)
STRENGTHS = (0.05, 0.2, 0.5)
RATES = (1e-3, 3e-4, 6e-4)
Row = dict[str, Any]


@dataclass
class Study:
    """Writes a study's files as the loop leaves them, `quality` being how well its LoRAs restore (below 0: harm)."""

    workspace: Workspace
    experiment: Experiment
    pictures: dict[str, np.ndarray]
    quality: float = 1.0

    @property
    def root(self) -> Path:
        return self.workspace.study(self.experiment.name).root

    def degraded(self, photo: str) -> np.ndarray:
        clean = self.pictures[photo]
        noise = numpy_generator("degraded", photo).normal(0, 9, clean.shape)
        return np.clip(cv2.GaussianBlur(clean, (0, 0), 1.6) + noise, 0, 255).round().astype(np.uint8)

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
        """A round whose best LoRA goes `progress` of the way that `quality` allows; its pictures are really scored."""
        folder = RoundFolder(self.root / f"round-{number:03d}")
        cells = [self._cell(number, *place) for place in self._grid()]
        winner = max((cell for cell in cells if cell["kind"] == "lora"), key=lambda cell: cell["share"])
        photo_rows = self._photo_rows("input", 0.0) + self._photo_rows(winner["id"], progress * self.quality)
        source = _means(photo_rows, "input")
        won, good = _means(photo_rows, winner["id"]), _means(self._photo_rows("good", 1.0), "good")
        rows = []
        for row in [*(self._reference(name, share) for name, share in _REFERENCES.items()), *cells]:
            goal, share = (won, row["share"] / winner["share"]) if row["kind"] == "lora" else (good, row["share"])
            if goal is won and self.quality < 0:
                share = 2 - share  # where every LoRA does harm, the best does the least
            turn = 1.0 if row is winner else 0.85 + 0.9 * (row["start_noise"] or 0) + 0.5 * (row["strength"] or 0)
            shares = {key: share * (turn if key == "perceptual" else 1) for key in source}
            scores = {key: source[key] + shares[key] * (goal[key] - source[key]) for key in source}
            rows.append({key: row[key] for key in row if key != "share"} | scores | _gains(scores, source))
        rows = [{**row, "photos": len(self.pictures), "perceptual_name": "GMSD"} for row in rows]
        for photo in self.pictures:
            picture = self.restored(photo, progress * self.quality)
            write_png(self.root / "cells" / winner["id"] / f"{photo}.png", picture)
        save_experiment(with_values(self.experiment, changes), folder.experiment)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder.table, metadata=metrics.CONVENTIONS)
        pl.DataFrame(photo_rows).write_parquet(folder.photo_table)
        self._write_training(folder, number, changes)
        self._write_result(folder, number, changes, reason, rows, winner["id"])

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
            "share": share,
        }

    def _reference(self, name: str, share: float) -> Row:
        empty = ("epoch", "strength", "start_noise", "steps", "num_inference_steps", "start_timestep", "detail_return")
        return {"id": name, "kind": "reference", "name": name, **dict.fromkeys(empty), "share": share}

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
        photo = sorted((self.root / "test" / "degraded").glob("*.png"))[0]
        for epoch in EPOCHS:
            write_png(folder.samples / f"epoch-{epoch:06d}" / photo.name, read_rgb(photo))
        write_json(folder.training_done, done)

    def _write_result(
        self, folder: RoundFolder, number: int, changes: Row, reason: str, rows: list[Row], winner: str
    ) -> None:
        by_name = {row["name"]: row for row in rows if row["kind"] == "reference"}
        best = next(row for row in rows if row["id"] == winner)
        base = max((row for row in rows if row["kind"] == "base"), key=lambda row: row["composite"])
        classical = max((by_name[name] for name in _CLASSICAL), key=lambda row: row["composite"])
        rivals = {"input": by_name["input"], "classical": classical, "base": base}
        result = {
            "round": number,
            "digest": "3a" * 32,
            "base_digest": "b7" * 32,
            "dataset_digest": "d0" * 32,
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
            "pruned": False,
        }
        write_json(folder.result, result)


_REFERENCES = {"input": 0.0, "autoencoder": 1.3, "non-local means": 0.2, "bilateral": 0.1, "unsharp mask": -0.2}
_CLASSICAL = ("non-local means", "bilateral", "unsharp mask")
_SCORES = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")


def _means(rows: list[Row], cell: str) -> Row:
    return {score: float(np.mean([row[score] for row in rows if row["id"] == cell])) for score in _SCORES}


def _gains(row: Row, source: Row) -> Row:
    psnr, ssim = row["psnr_y"] - source["psnr_y"], row["ssim_y"] - source["ssim_y"]
    distance = (source["perceptual"] - row["perceptual"]) / source["perceptual"]
    composite = (psnr + ssim / 0.04 + distance / 0.1) / 3
    return {"gain_psnr_y": psnr, "gain_ssim_y": ssim, "gain_perceptual": distance, "composite": composite}


def make_study(root: Path, photos: Path, *, quality: float = 1.0, rounds: int = 3, limit: int = 6) -> Study:
    """Writes a whole study of the first `limit` photographs of a folder; the first gets a hostile name."""
    files = sorted(photos.iterdir())[:limit]
    pictures = {(HOSTILE if at == 0 else file.stem): read_rgb(file) for at, file in enumerate(files)}
    grid = {"sweep.strengths": STRENGTHS, "sweep.start_noises": (0.0, 0.5), "sweep.detail_returns": (0.0, 0.5, 1.0)}
    experiment = with_values(load_preset("pocket"), {**grid, "name": "study"})
    study = Study(Workspace(root), experiment, pictures, quality)
    study.write_pictures()
    for number in range(rounds):
        rank = (32, 16, 64, 32)[number % 4]
        changes = {"training.learning_rate": RATES[number % 3], "adapter.rank": rank} if number else {}
        reason = "the experiment as given" if not number else "a lower rate, because the loss of round 0 jumped"
        study.write_round(number, changes, 1.1 - 0.9 / (number + 2) - 0.1 * (number % 3 == 2), reason)
    return study
