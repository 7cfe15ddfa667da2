"""A small swept round: three photographs, four cells, five references."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import data

from lora_core.classical import CLASSICAL
from lora_core.experiment import Experiment, ScoringSection
from lora_core.files import file_digest, read_json, write_json
from lora_core.images import write_png
from lora_core.workspace import StudyFolder, Workspace

Picture = np.ndarray
GMSD = ScoringSection(perceptual="gmsd")
EXPERIMENT = Experiment(name="small", scoring=GMSD)
PHOTOS = {
    "astronaut": np.ascontiguousarray(data.astronaut()[60:132, 190:270]),
    "cat": np.ascontiguousarray(data.chelsea()[60:140, 100:172]),
    "coffee": np.ascontiguousarray(data.coffee()[100:165, 200:297]),
}
SETTINGS = {
    "start_noise": 0.0,
    "steps": 1,
    "num_inference_steps": 10,
    "start_timestep": 91,
    "detail_return": 1.0,
    "lora_scale": 1.0,
    "colour_fix": "none",
    "sampler": "ddim",
    "guidance_scale": 1.0,
    "seed": 0,
}
CELLS: list[dict[str, Any]] = [
    {"id": "epoch-5-low", "kind": "lora", "epoch": 5, "strength": 0.1, **SETTINGS},
    {"id": "epoch-10-low", "kind": "lora", "epoch": 10, "strength": 0.1, **SETTINGS},
    {"id": "epoch-10-high", "kind": "lora", "epoch": 10, "strength": 0.3, **SETTINGS},
    {"id": "base-low", "kind": "base", "epoch": None, "strength": 0.1, **SETTINGS, "lora_scale": None},
]
REFERENCES = [
    {"id": f"reference-{name}", "kind": "reference", "name": name} for name in ("input", "autoencoder", *CLASSICAL)
]
IDS = [entry["id"] for entry in (*REFERENCES, *CELLS)]
SHARES = {"epoch-5-low": 0.3, "epoch-10-low": 0.6, "epoch-10-high": 0.5, "base-low": -0.2, "reference-autoencoder": 0.9}


def degraded(photo: Picture) -> Picture:
    noise = np.random.default_rng(photo.shape[0]).normal(0, 5, photo.shape)
    return (cv2.GaussianBlur(photo, (0, 0), 1.0) + noise).round().clip(0, 255).astype(np.uint8)


def made_by(entry: dict[str, Any], photo: Picture) -> Picture:
    """A filter's picture, or one that lies a share of the way from the degraded photograph to the original."""
    if (name := entry.get("name")) in CLASSICAL:
        return CLASSICAL[name](degraded(photo))
    share = SHARES.get(entry["id"], 0.0)
    return (photo * share + degraded(photo) * (1.0 - share)).round().clip(0, 255).astype(np.uint8)


def write_round(root: Path) -> None:
    """A workspace after its sweep."""
    study = Workspace(root).study("small")
    for name, photo in PHOTOS.items():
        write_png(study.root / "test" / "original" / f"{name}.png", photo)
    for entry in (*REFERENCES, *CELLS):
        folder = study.cells / entry["id"]
        for name, photo in PHOTOS.items():
            write_png(folder / f"{name}.png", made_by(entry, photo))
        write_json(folder / "cell.json", {"photos": {path.stem: file_digest(path) for path in folder.glob("*.png")}})
    write_json(study.round(0).sweep_done, {"test": list(PHOTOS), "cells": CELLS, "references": REFERENCES})


def drop_after(study: StudyFolder, cell: str, photos: int) -> None:
    """As the race leaves a cell that it dropped: with pictures of the first photographs only."""
    sweep = read_json(study.round(0).sweep_done)
    for row in sweep["cells"]:
        if row["id"] == cell:
            row["photos"] = photos
    write_json(study.round(0).sweep_done, sweep)
    for name in sweep["test"][photos:]:
        (study.cells / cell / f"{name}.png").unlink()
