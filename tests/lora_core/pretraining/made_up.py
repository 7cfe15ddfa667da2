"""A work folder as a finished training leaves it, with curves that are made up and file names that mean harm."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lora_core.files import write_json, write_text
from lora_core.images import write_png
from lora_core.pretraining.recipe import Recipe, change_recipe
from lora_core.settings import save_settings

HOSTILE = "<script>alert(1)</script>.jpg"
EPOCHS, PHOTOS = 60, 9_000
MEANS = {"25": 0.95, "100": 0.85, "900": 0.69}


def make_work(root: Path) -> Path:
    """Writes every file that the page reads."""
    work = root / "work"
    save_recipe(work)
    _write_data(work / "data")
    _write_autoencoder(work / "autoencoder")
    _write_unet(work / "unet")
    timesteps = {"25": 0.71, "100": 0.52, "200": 0.41, "500": 0.2, "900": 0.05}
    evaluation = {
        "psnr_rgb": 28.42,
        "psnr_rgb_crop": 128,
        "loss_by_timestep": timesteps,
        "mean_predictor": MEANS,
        "fid": None,
        "kid": None,
        "distances_note": "torchvision's Inception weights are not in the torch hub cache",
        "restoration": {"gain_psnr_y": 0.85, "gain_ssim_y": 0.038, "gain_perceptual": 0.12, "report": HOSTILE},
    }
    write_json(work / "evaluation.json", evaluation)
    return work


def save_recipe(work: Path) -> None:
    """The recipe alone: a work folder in which nothing has run yet."""
    prompts = f"evaluation.prompts=['a photo of a dog', '{HOSTILE}']"
    save_settings(change_recipe(Recipe(), [f"data.path=/photos/{HOSTILE}", prompts]), work / "recipe.yaml")


def _write_data(folder: Path) -> None:
    reasons = {"not an image": 2, "smaller than 256 pixels": 75}
    survey = {"train": PHOTOS, "validation": 1_000, "rejected": 77, "without_caption": 12, "reasons": reasons}
    write_json(folder / "survey.json", survey)
    names = [HOSTILE, *(f"photographs/of/a/long/path/that-goes-on-and-on-{n:08}.jpg" for n in range(76))]
    _write_rows(folder / "rejects.jsonl", [{"record": name, "reason": "smaller than 256 pixels"} for name in names])


def _write_autoencoder(folder: Path) -> None:
    rows = [{"images": PHOTOS * epoch, "epoch": epoch, "loss": 0.02, "learning_rate": 0.02} for epoch in range(1, 21)]
    _write_rows(folder / "log.jsonl", rows)
    shown = [{**row, "psnr_rgb": 29 - 9 * math.exp(-row["epoch"] / 4)} for row in rows]
    _write_rows(folder / "validation.jsonl", shown)
    write_json(folder / "done.json", {"stopped": "complete"})


def _write_unet(folder: Path) -> None:
    random = np.random.default_rng(0)
    log, validation = [], []
    for step in range(1, 10 * EPOCHS + 1):
        images, epoch = PHOTOS * step // 10, step / 10
        noise = float(random.normal(0, 0.03))
        row = {"images": images, "epoch": epoch, "update": images // 16, "loss": _loss(epoch) + noise}
        log.append({**row, "learning_rate": 1e-3 * (1 - epoch / EPOCHS), "images_per_second": 91.4})
        if step % 10 == 0:
            by_timestep = {"25": 1.4 * _loss(epoch), "100": _loss(epoch), "900": 0.2 * _loss(epoch)}
            losses = {"loss": _loss(epoch), "by_timestep": by_timestep, "training_loss": _loss(epoch) - 0.002 * epoch}
            validation.append({"images": images, "epoch": epoch, **losses})
    _write_rows(folder / "log.jsonl", log)
    _write_rows(folder / "validation.jsonl", validation)
    checkpoints = [
        {"epoch": epoch, "folder": f"checkpoints/epoch-{epoch:06}", "bytes": 13_500_000, "loss": _loss(epoch)}
        for epoch in range(10, EPOCHS + 1, 10)
    ]
    done: dict[str, Any] = {"stopped": "complete", "epochs": EPOCHS, "images": PHOTOS * EPOCHS, "seconds": 5_900.0}
    done |= {"photos": PHOTOS, "references": {"mean_predictor": MEANS, "base": None}, "best_epoch": EPOCHS}
    write_json(folder / "done.json", done | {"checkpoints": checkpoints, "busy": 0.98})
    for epoch in range(5, EPOCHS + 1, 5):
        picture = random.integers(0, 256, (128, 256, 3)).astype(np.uint8)
        write_png(folder / "samples" / f"epoch-{epoch:06}.png", picture)


def _loss(epoch: float) -> float:
    return 0.3 + 0.5 * math.exp(-epoch / 5) + 2e-6 * min(epoch, 40.0)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
