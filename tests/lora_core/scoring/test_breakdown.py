"""Gains by kind and strength of degradation, from a manifest."""

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lora_core.degradation import degrade_folder
from lora_core.degradation.manifest import Record, write_manifest
from lora_core.experiment import DegradationSection
from lora_core.files import file_digest
from lora_core.images import write_png
from lora_core.scoring import score_round
from lora_core.scoring.breakdown import OPERATIONS, SCHEMA, degradation_rows, strengths_of
from lora_core.workspace import StudyFolder, Workspace
from tests.lora_core.scoring.small_round import EXPERIMENT, PHOTOS

GREY = np.full((8, 8, 3), 128, np.uint8)


def write_twins(workspace: Workspace, operations: dict[str, list[dict[str, object]]]) -> None:
    """Twins by name without suffix, with a manifest that says what was done to them."""
    records = {}
    for name, done in operations.items():
        path = workspace.test_degraded / f"{name}.png"
        write_png(path, GREY)
        parameters = {"operations": done}
        records[path.name] = Record(path.name, "source", file_digest(path), "own", 0, "recipe", parameters)
    write_manifest(workspace.test_degraded, records)


def jpeg(quality: int) -> dict[str, object]:
    return {"operation": "Jpeg", "quality": quality}


def test_every_operation_of_the_presets_is_known(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    photos = []
    for number in range(24):
        photos.append(tmp_path / "clean" / f"{number:02d}.png")
        write_png(photos[-1], np.random.default_rng(number).integers(0, 256, (40, 44, 3), np.uint8))
    degrade_folder(photos, workspace.test_degraded, DegradationSection(preset="medium"))
    strengths = strengths_of(workspace, [photo.stem for photo in photos])
    assert list(strengths) == list(OPERATIONS)
    counts = {operation: len(of_photo) for operation, of_photo in strengths.items()}
    assert counts["JPEG"] == 24  # every photograph, and all others by chance
    assert all(0 < count <= 24 for count in counts.values())
    assert all(value > 1 for value in strengths["downsampling"].values())


def test_levels_are_thirds_and_gains_are_means_of_their_photographs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    qualities = {f"p{at}": 30 + 10 * at for at in range(6)}
    operations = {name: [jpeg(95), jpeg(quality)] for name, quality in qualities.items()}
    operations["p0"].append({"operation": "GaussianNoise", "sigma": 4.0, "grey": False})
    write_twins(workspace, operations)
    inputs = {name: {"photo": name, "psnr_y": 20.0, "ssim_y": 0.5, "perceptual": 0.2} for name in qualities}
    scored = [
        {"photo": name, "psnr_y": 20.0 + at, "ssim_y": 0.5, "perceptual": 0.1, "composite": float(at)}
        for at, name in enumerate(qualities)
    ]
    rows = degradation_rows([{"id": "cell", "name": "epoch 5"}], {"cell": scored}, inputs, workspace)
    table = pl.DataFrame(rows, schema=SCHEMA)
    found = {
        row[:2]: row[2:] for row in table.select("operation", "level", "photos", "gain_psnr_y", "composite").rows()
    }
    assert found == {
        ("Gaussian noise", "all"): (1, 0.0, 0.0),
        ("JPEG", "all"): (6, 2.5, 2.5),
        ("JPEG", "strong"): (2, 0.5, 0.5),  # the lowest qualities
        ("JPEG", "medium"): (2, 2.5, 2.5),
        ("JPEG", "weak"): (2, 4.5, 4.5),
    }
    assert table["gain_perceptual"].to_list() == pytest.approx([0.5] * 5)


def test_equal_strengths_have_no_levels(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_twins(workspace, {f"p{at}": [jpeg(50)] for at in range(6)})
    inputs = {f"p{at}": {"photo": f"p{at}", "psnr_y": 20.0, "ssim_y": 0.5, "perceptual": 0.2} for at in range(6)}
    scored = [{**row, "composite": 0.0} for row in inputs.values()]
    (row,) = degradation_rows([{"id": "cell", "name": "epoch 5"}], {"cell": scored}, inputs, workspace)
    assert (row["operation"], row["level"], row["photos"]) == ("JPEG", "all", 6)


def test_twins_that_are_not_the_manifests_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace = Workspace(tmp_path)
    write_twins(workspace, {"p0": [jpeg(50)], "p1": [jpeg(60)]})
    write_png(workspace.test_degraded / "p1.png", GREY + 1)
    with caplog.at_level(logging.WARNING):
        assert strengths_of(workspace, ["p0", "p1", "p2"])["JPEG"] == {"p0": -50}
    assert "2 of 3 test photographs have no record" in caplog.text


def test_a_round_writes_the_table(workspace: Workspace, study: StudyFolder) -> None:
    score_round(workspace, EXPERIMENT, 0)
    empty = pl.read_parquet(study.round(0).degradation_table)
    assert len(empty) == 0 and dict(empty.schema) == SCHEMA
    write_twins(workspace, {name: [jpeg(40 + 10 * at)] for at, name in enumerate(PHOTOS)})
    result = score_round(workspace, EXPERIMENT, 0)
    table = pl.read_parquet(study.round(0).degradation_table)
    assert table["id"].unique(maintain_order=True).to_list() == [
        result[who]["id"] for who in ("winner", "base", "classical")
    ]
    by_level = {row["level"]: row for row in table.filter(pl.col("id") == result["winner"]["id"]).to_dicts()}
    assert by_level["all"]["composite"] == pytest.approx(result["winner"]["composite"], abs=1e-12)
    assert by_level["all"]["gain_perceptual"] == pytest.approx(result["winner"]["gain_perceptual"], abs=1e-12)
    photos = pl.read_parquet(study.round(0).photo_table).filter(pl.col("id") == result["winner"]["id"])
    points = dict(photos.select("photo", "composite").rows())
    assert by_level["strong"]["composite"] == points["astronaut"]
    assert by_level["weak"]["composite"] == points["coffee"]
