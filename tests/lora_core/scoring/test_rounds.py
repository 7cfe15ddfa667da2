"""Scoring of a small round: its tables and what they say."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lora_core import metrics
from lora_core.classical import CLASSICAL
from lora_core.errors import DataError
from lora_core.files import read_json, write_json
from lora_core.images import read_rgb, write_png
from lora_core.scoring import score_round, scorer
from lora_core.workspace import RoundFolder, StudyFolder, Workspace
from tests.lora_core.scoring.small_round import (
    CELLS,
    EXPERIMENT,
    IDS,
    PHOTOS,
    REFERENCES,
    Picture,
    drop_after,
    made_by,
)

ROOT = Path(__file__).parents[3]


def tables(folder: RoundFolder) -> dict[str, bytes]:
    paths = [folder.table.with_suffix(suffix) for suffix in (".parquet", ".csv", ".xlsx")]
    paths += [folder.photo_table, folder.degradation_table]
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
    further = "colour_shift sharpness ms_ssim ciede2000"
    counts = "epoch steps num_inference_steps start_timestep seed photos dropped_after"
    assert dict(pl.read_parquet_schema(table)) == {
        **dict.fromkeys(("id", "kind", "name", "colour_fix", "sampler", "perceptual_name"), pl.String),
        **dict.fromkeys(counts.split(), pl.Int64),
        **dict.fromkeys(("strength", "start_noise", "detail_return", "lora_scale", "guidance_scale"), pl.Float64),
        **dict.fromkeys(numbers.split(), pl.Float64),
        **dict.fromkeys(("gain_psnr_y", "gain_ssim_y", "gain_perceptual", "composite"), pl.Float64),
        **dict.fromkeys(("composite_low", "composite_high", "p_input", "p_champion"), pl.Float64),
        "feasible": pl.Boolean,
        **dict.fromkeys(further.split(), pl.Float64),
    }
    assert pl.read_parquet(study.round(0).photo_table).columns == [
        *("id", "photo", *numbers.split(), "composite"),
        *further.split(),
    ]
    written = pl.read_csv(table.with_suffix(".csv"), schema=pl.read_parquet_schema(table))
    assert written.equals(pl.read_parquet(table))
    meanings = pl.read_parquet_metadata(table)
    for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
        assert meanings[name] == metrics.CONVENTIONS[name]
    assert meanings["perceptual"] == f"GMSD: {metrics.CONVENTIONS['gmsd']}"


def test_equal_scores_give_equal_bytes(
    workspace: Workspace, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed anew by other numbers of workers, and read from the kept scores."""
    monkeypatch.setattr(scorer, "WORKERS", 1)
    first = score_round(workspace, EXPERIMENT, 0)
    bytes_of_first = tables(study.round(0))
    assert score_round(workspace, EXPERIMENT, 0) == first
    assert tables(study.round(0)) == bytes_of_first
    for path in study.scores.iterdir():
        path.unlink()
    monkeypatch.setattr(scorer, "WORKERS", 4)
    assert score_round(workspace, EXPERIMENT, 0) == first
    assert tables(study.round(0)) == bytes_of_first


def test_killed_half_way(workspace: Workspace, study: StudyFolder, scored: list[None]) -> None:
    """Killed at its eleventh picture, with three cells of three done: two pictures are lost, none of the nine."""
    program = f"""
import os, signal
from pathlib import Path
from lora_core.scoring import score_round, scorer
from lora_core.experiment import Experiment, ScoringSection
from lora_core.workspace import Workspace
real, calls = scorer.score_pair, []
def fatal(*arguments):
    calls.append(None)
    if len(calls) == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
scorer.score_pair, scorer.WORKERS = fatal, 1
experiment = Experiment(name="small", scoring=ScoringSection(perceptual="gmsd"))
score_round(Workspace(Path({str(workspace.root)!r})), experiment, 0)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60)
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
    assert len(scored) == 1 and after["psnr_y"] < before["psnr_y"]
    write_png(study.root / "test" / "original" / "cat.png", PHOTOS["cat"][::-1].copy())
    scored.clear()
    assert score_round(workspace, EXPERIMENT, 0)["winner"]["psnr_y"] < after["psnr_y"]
    assert len(scored) == len(IDS)


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
    found = {key: row[key] for key in ("psnr_y", "psnr_rgb", "perceptual", "ssim_y", "ssim_rgb")}
    assert found == pytest.approx({"psnr_y": 100, "psnr_rgb": 100, "perceptual": 0, "ssim_y": 1, "ssim_rgb": 1})


def test_of_equal_cells_the_first_wins(workspace: Workspace, study: StudyFolder) -> None:
    for name, photo in PHOTOS.items():
        write_png(study.cells / "epoch-10-high" / f"{name}.png", made_by(CELLS[1], photo))
    result = score_round(workspace, EXPERIMENT, 0)
    assert result["winner"]["id"] == "epoch-10-low"
    assert result["front"] == ["epoch-10-low", "epoch-10-high"]


def test_a_dropped_cell_is_scored_on_what_it_saw_and_wins_nothing(workspace: Workspace, study: StudyFolder) -> None:
    """The best cell of all, dropped after two photographs: by mistake, as far as this test is concerned."""
    complete = score_round(workspace, EXPERIMENT, 0)
    whole = pl.read_parquet(study.round(0).photo_table)
    drop_after(study, "epoch-10-low", 2)
    result = score_round(workspace, EXPERIMENT, 0)
    table = pl.read_parquet(study.round(0).table)
    assert complete["winner"]["id"] == "epoch-10-low"
    assert result["winner"]["id"] == "epoch-10-high" and result["front"] == ["epoch-10-high"]
    assert table["id"].to_list() == [*(one for one in IDS if one != "epoch-10-low"), "epoch-10-low"]
    assert table["dropped_after"].to_list() == [None] * (len(IDS) - 1) + [2]
    row = table.row(-1, named=True)
    seen = [photo for photo in PHOTOS][:2]

    def mean(cell: str, score: str, photos: list[str]) -> float:
        rows = whole.filter((pl.col("id") == cell) & pl.col("photo").is_in(photos))
        assert len(rows) == len(photos)
        return float(np.mean(rows[score].to_numpy()))

    assert row["photos"] == 2
    for score in ("psnr_y", "ssim_y", "perceptual", "composite"):
        assert row[score] == pytest.approx(mean("epoch-10-low", score, seen), abs=1e-12)
    start = mean("reference-input", "psnr_y", seen)
    assert row["gain_psnr_y"] == pytest.approx(row["psnr_y"] - start, abs=1e-12)
    nearer = mean("reference-input", "perceptual", seen) - row["perceptual"]
    assert row["gain_perceptual"] == pytest.approx(
        nearer / mean("reference-input", "perceptual", list(PHOTOS)), abs=1e-12
    )


def test_pictures_beyond_what_the_race_counted_play_no_part(workspace: Workspace, study: StudyFolder) -> None:
    """An earlier, exhaustive sweep may have left a dropped cell's pictures whole."""
    picture = study.cells / "epoch-10-low" / "coffee.png"
    kept = picture.read_bytes()
    drop_after(study, "epoch-10-low", 2)
    first = score_round(workspace, EXPERIMENT, 0), tables(study.round(0))
    picture.write_bytes(kept)
    assert (score_round(workspace, EXPERIMENT, 0), tables(study.round(0))) == first


def test_a_cell_that_lacks_a_picture_and_was_not_dropped(workspace: Workspace, study: StudyFolder) -> None:
    (study.cells / "base-low" / "coffee.png").unlink()
    with pytest.raises(DataError, match=r"base-low/coffee\.png: No such file"):
        score_round(workspace, EXPERIMENT, 0)
