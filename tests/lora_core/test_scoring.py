"""Scoring of a small round: three photographs, four cells, five references."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from skimage import data

from lora_core import metrics, scoring
from lora_core.classical import CLASSICAL
from lora_core.errors import DataError
from lora_core.experiment import Experiment, ScoringSection
from lora_core.files import file_digest, read_json, write_json
from lora_core.images import read_rgb, write_png
from lora_core.perceptual import choose_perceptual
from lora_core.scoring import composite, pareto_front, score_folders, score_round
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

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
}
CELLS: list[dict[str, Any]] = [
    {"id": "epoch-5-low", "kind": "lora", "epoch": 5, "strength": 0.1, **SETTINGS},
    {"id": "epoch-10-low", "kind": "lora", "epoch": 10, "strength": 0.1, **SETTINGS},
    {"id": "epoch-10-high", "kind": "lora", "epoch": 10, "strength": 0.3, **SETTINGS},
    {"id": "base-low", "kind": "base", "epoch": None, "strength": 0.1, **SETTINGS},
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


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after its sweep; tests get copies, because every whole file waits for the disk."""
    root = tmp_path_factory.mktemp("swept")
    study = Workspace(root).study("small")
    for name, photo in PHOTOS.items():
        write_png(study.root / "test" / "original" / f"{name}.png", photo)
    for entry in (*REFERENCES, *CELLS):
        folder = study.cells / entry["id"]
        for name, photo in PHOTOS.items():
            write_png(folder / f"{name}.png", made_by(entry, photo))
        write_json(folder / "cell.json", {"photos": {path.stem: file_digest(path) for path in folder.glob("*.png")}})
    write_json(study.round(0).sweep_done, {"test": list(PHOTOS), "cells": CELLS, "references": REFERENCES})
    return root


@pytest.fixture
def workspace(swept: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(swept, tmp_path / "workspace")))


@pytest.fixture
def study(workspace: Workspace) -> StudyFolder:
    return workspace.study("small")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with every picture that is scored."""
    calls: list[None] = []
    real = scoring.score_pair

    def counted(*arguments: Any) -> dict[str, float]:
        calls.append(None)
        return real(*arguments)

    monkeypatch.setattr(scoring, "score_pair", counted)
    return calls


def tables(folder: RoundFolder) -> dict[str, bytes]:
    paths = [folder.photo_table, *(folder.table.with_suffix(suffix) for suffix in (".parquet", ".csv", ".xlsx"))]
    return {path.name: path.read_bytes() for path in paths}


def test_tables_and_conclusions(workspace: Workspace, study: StudyFolder) -> None:
    result = score_round(workspace, EXPERIMENT, 0)
    table = pl.read_parquet(study.round(0).table)
    by_photo = pl.read_parquet(study.round(0).photo_table)
    rows = {row["id"]: row for row in table.to_dicts()}
    assert list(rows) == IDS
    assert by_photo.select("id", "photo").rows() == [(cell, photo) for cell in IDS for photo in PHOTOS]

    def mean(metric: Callable[[Picture, Picture], float], entry: dict[str, Any]) -> float:
        return float(np.mean([metric(made_by(entry, photo), photo) for photo in PHOTOS.values()]))

    for entry in (*REFERENCES, *CELLS):
        row = rows[entry["id"]]
        for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
            assert row[name] == pytest.approx(mean(getattr(metrics, name), entry), abs=1e-12)
        assert row["perceptual"] == pytest.approx(mean(metrics.gmsd, entry), abs=1e-12)
        start = rows["reference-input"]
        gains = [row[name] - start[name] for name in ("psnr_y", "ssim_y")]
        gains.append(1 - row["perceptual"] / start["perceptual"])
        assert [row["gain_psnr_y"], row["gain_ssim_y"], row["gain_perceptual"]] == pytest.approx(gains, abs=1e-12)
        assert row["composite"] == pytest.approx((gains[0] + gains[1] / 0.04 + gains[2] / 0.10) / 3, abs=1e-10)
        assert (row["photos"], row["perceptual_name"]) == (3, "GMSD")

    assert {name: result[name]["id"] for name in ("winner", "input", "base", "autoencoder")} == {
        "winner": "epoch-10-low",
        "input": "reference-input",
        "base": "base-low",
        "autoencoder": "reference-autoencoder",
    }
    assert result["winner"] == rows["epoch-10-low"]
    assert result["classical"]["composite"] == max(rows[f"reference-{name}"]["composite"] for name in CLASSICAL)
    assert result["front"] == ["epoch-10-low"]  # nearest to the original in every metric
    assert result["perceptual"] == {"name": "GMSD", "reason": "chosen by scoring.perceptual: gmsd"}
    assert rows["reference-input"]["composite"] == 0
    assert [rows[one]["name"] for one in ("epoch-5-low", "base-low", "reference-bilateral")] == [
        "epoch 5",
        "base without LoRA",
        "bilateral",
    ]


def test_tables_have_the_agreed_columns_and_state_their_conventions(workspace: Workspace, study: StudyFolder) -> None:
    score_round(workspace, EXPERIMENT, 0)
    table = study.round(0).table
    numbers = "psnr_y psnr_rgb ssim_y ssim_rgb perceptual"
    assert dict(pl.read_parquet_schema(table)) == {
        **dict.fromkeys(("id", "kind", "name", "perceptual_name"), pl.String),
        **dict.fromkeys(("epoch", "steps", "num_inference_steps", "start_timestep", "photos"), pl.Int64),
        **dict.fromkeys(("strength", "start_noise", "detail_return"), pl.Float64),
        **dict.fromkeys(numbers.split(), pl.Float64),
        **dict.fromkeys(("gain_psnr_y", "gain_ssim_y", "gain_perceptual", "composite"), pl.Float64),
    }
    assert pl.read_parquet(study.round(0).photo_table).columns == ["id", "photo", *numbers.split()]
    assert pl.read_csv(table.with_suffix(".csv")).equals(pl.read_parquet(table))
    meanings = pl.read_parquet_metadata(table)
    for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
        assert meanings[name] == metrics.CONVENTIONS[name]
    assert meanings["perceptual"] == f"GMSD: {metrics.CONVENTIONS['gmsd']}"


def test_equal_scores_give_equal_bytes(
    workspace: Workspace, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed anew by other numbers of workers, and read from the kept scores."""
    monkeypatch.setattr(scoring, "WORKERS", 1)
    first = score_round(workspace, EXPERIMENT, 0)
    bytes_of_first = tables(study.round(0))
    assert score_round(workspace, EXPERIMENT, 0) == first
    assert tables(study.round(0)) == bytes_of_first
    for path in study.scores.iterdir():
        path.unlink()
    monkeypatch.setattr(scoring, "WORKERS", 4)
    assert score_round(workspace, EXPERIMENT, 0) == first
    assert tables(study.round(0)) == bytes_of_first


def test_killed_half_way(workspace: Workspace, study: StudyFolder, scored: list[None]) -> None:
    """Killed at its eleventh picture, with three cells of three done: two pictures are lost, none of the nine."""
    program = f"""
import os, signal
from pathlib import Path
from lora_core import scoring
from lora_core.experiment import Experiment, ScoringSection
from lora_core.workspace import Workspace
real, calls = scoring.score_pair, []
def fatal(*arguments):
    calls.append(None)
    if len(calls) == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
scoring.score_pair, scoring.WORKERS = fatal, 1
experiment = Experiment(name="small", scoring=ScoringSection(perceptual="gmsd"))
scoring.score_round(Workspace(Path({str(workspace.root)!r})), experiment, 0)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(study.scores.glob("*.json"))) == 3
    assert not study.round(0).table.exists()
    score_round(workspace, EXPERIMENT, 0)
    assert len(scored) == 3 * (len(IDS) - 3)
    score_round(workspace, EXPERIMENT, 0)
    assert len(scored) == 3 * (len(IDS) - 3)


def test_what_changed_is_scored_again(workspace: Workspace, study: StudyFolder, scored: list[None]) -> None:
    before = score_round(workspace, EXPERIMENT, 0)["winner"]
    changed = study.cells / "epoch-10-low" / "cat.png"
    write_png(changed, made_by(CELLS[0], PHOTOS["cat"]))
    scored.clear()
    after = score_round(workspace, EXPERIMENT, 0)["winner"]
    assert len(scored) == 3 and after["psnr_y"] < before["psnr_y"]
    write_png(study.root / "test" / "original" / "cat.png", PHOTOS["cat"][::-1].copy())
    scored.clear()
    assert score_round(workspace, EXPERIMENT, 0)["winner"]["psnr_y"] < after["psnr_y"]
    assert len(scored) == 3 * len(IDS)
    next(study.scores.iterdir()).write_text("{", encoding="utf-8")  # damaged by someone
    scored.clear()
    score_round(workspace, EXPERIMENT, 0)
    assert len(scored) == 3


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def crop(path: Path) -> None:
    write_png(path, read_rgb(path)[:-1])


@pytest.mark.parametrize(
    ("file", "spoil", "says"),
    [
        ("cells/epoch-10-low/cat.png", remove, r"epoch-10-low/cat\.png: No such file.*delete .*epoch-10-low .*sweep"),
        ("cells/reference-input/cat.png", cut_short, r"reference-input/cat\.png: .*photo-enhancer sweep"),
        ("cells/base-low/cat.png", crop, r"base-low/cat\.png against .*72x79 and 72x80 .*photo-enhancer sweep"),
        ("cells/base-low/cell.json", remove, r"base-low has no cell\.json.*photo-enhancer sweep"),
        ("test/original/coffee.png", remove, r"original/coffee\.png: No such file.*photo-enhancer sweep"),
        ("round-000/sweep.json", remove, r"sweep\.json does not exist.*photo-enhancer sweep"),
    ],
    ids=["missing", "unreadable", "another size", "incomplete cell", "no original", "no sweep"],
)
def test_incomplete_sweeps(
    file: str, spoil: Callable[[Path], None], says: str, workspace: Workspace, study: StudyFolder
) -> None:
    spoil(study.root / file)
    with pytest.raises(DataError, match=says) as error:
        score_round(workspace, EXPERIMENT, 0)
    assert "\n" not in str(error.value)
    assert not study.round(0).table.exists()


@pytest.mark.parametrize("name", ["input", "autoencoder"])
def test_a_round_without_its_references(name: str, workspace: Workspace, study: StudyFolder) -> None:
    sweep = read_json(study.round(0).sweep_done)
    sweep["references"] = [one for one in sweep["references"] if one["name"] != name]
    write_json(study.round(0).sweep_done, sweep)
    with pytest.raises(DataError, match=f"no reference '{name}'"):
        score_round(workspace, EXPERIMENT, 0)


def test_nothing_to_restore(workspace: Workspace, study: StudyFolder) -> None:
    for name, photo in PHOTOS.items():
        write_png(study.cells / "reference-input" / f"{name}.png", photo)
    with pytest.raises(DataError, match="nothing to restore"):
        score_round(workspace, EXPERIMENT, 0)


def test_a_picture_equal_to_its_original_is_said_aloud(
    workspace: Workspace, study: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    write_png(study.cells / "epoch-5-low" / "cat.png", PHOTOS["cat"])
    score_round(workspace, EXPERIMENT, 0)
    assert "pictures equal to their originals: 1; each counts as 100 dB" in caplog.text
    row = pl.read_parquet(study.round(0).photo_table).row(
        by_predicate=(pl.col("id") == "epoch-5-low") & (pl.col("photo") == "cat"), named=True
    )
    assert row == {"id": "epoch-5-low", "photo": "cat", "psnr_y": 100, "psnr_rgb": 100, "perceptual": 0} | {
        "ssim_y": pytest.approx(1), "ssim_rgb": pytest.approx(1)
    }  # fmt: skip


def test_of_equal_cells_the_first_wins(workspace: Workspace, study: StudyFolder) -> None:
    for name, photo in PHOTOS.items():
        write_png(study.cells / "epoch-10-high" / f"{name}.png", made_by(CELLS[1], photo))
    result = score_round(workspace, EXPERIMENT, 0)
    assert result["winner"]["id"] == "epoch-10-low"
    assert result["front"] == ["epoch-10-low", "epoch-10-high"]


@pytest.mark.parametrize(
    ("gains", "weights", "points"),
    [
        ((0.0, 0.0, 0.0), (1, 1, 1), 0.0),
        ((1.0, 0.04, 0.10), (3, 0.5, 2), 1.0),
        ((2.0, -0.04, 0.20), (1, 1, 1), 1.0),
        ((2.0, -0.04, 0.20), (0, 1, 3), 1.25),
    ],
)
def test_composite(gains: tuple[float, float, float], weights: tuple[float, float, float], points: float) -> None:
    section = ScoringSection(psnr_weight=weights[0], ssim_weight=weights[1], perceptual_weight=weights[2])
    assert composite(*gains, section) == pytest.approx(points, abs=1e-12)


def test_pareto_front() -> None:
    points = {"faithful": (30, 0.3), "natural": (27, 0.1), "between": (28, 0.2), "worse": (27, 0.2), "twin": (28, 0.2)}
    rows = [{"id": name, "psnr_y": psnr, "perceptual": distance} for name, (psnr, distance) in points.items()]
    assert pareto_front(rows) == ["faithful", "natural", "between", "twin"]


def test_score_folders(tmp_path: Path) -> None:
    for name, photo in PHOTOS.items():
        write_png(tmp_path / "original" / f"{name}.png", photo)
        write_png(tmp_path / "restored" / f"{name}.png", degraded(photo))
    (tmp_path / "restored" / "cat.png").unlink()
    cv2.imwrite(str(tmp_path / "restored" / "cat.jpg"), PHOTOS["cat"][..., ::-1])
    table = score_folders(tmp_path / "restored", tmp_path / "original", GMSD)
    assert table["photo"].to_list() == ["astronaut", "cat", "coffee", "mean of 3"]
    expected = scoring.score_pair(degraded(PHOTOS["coffee"]), PHOTOS["coffee"], choose_perceptual(GMSD))
    assert table.row(2, named=True) == {"photo": "coffee", **expected, "perceptual_name": "GMSD"}
    assert table["psnr_y"][3] == pytest.approx(table["psnr_y"][:3].mean(), abs=1e-12)


def test_score_folders_that_do_not_match(tmp_path: Path) -> None:
    original, restored = tmp_path / "original", tmp_path / "restored"
    restored.mkdir()
    for name in PHOTOS:
        write_png(original / f"{name}.png", PHOTOS[name])
    write_png(restored / "cat.png", PHOTOS["cat"])
    write_png(restored / "dog.png", PHOTOS["cat"])
    with pytest.raises(DataError, match=r"restored lacks astronaut, coffee; .*original has no original of dog"):
        score_folders(restored, original, GMSD)
    cv2.imwrite(str(restored / "cat.jpg"), PHOTOS["cat"])
    with pytest.raises(DataError, match=r"both cat\.jpg and cat\.png"):
        score_folders(restored, original, GMSD)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        score_folders(tmp_path / "nowhere", original, GMSD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no photographs"):
        score_folders(tmp_path / "empty", tmp_path / "empty", GMSD)
