"""A round's end, on a round whose pictures are made here: half restored, and not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment, apply_overrides, load_experiment, load_preset, with_values
from lora_core.files import file_digest, write_json
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.lineage import read_results
from lora_core.preparation import create_workspace, prepare
from lora_core.rounds import begin_round, finish_round, result_in_words
from lora_core.workspace import Workspace

# How much of the way from the degraded picture to the original each cell goes.
CELLS = {"base": 0.1, "epoch-1": 0.2, "epoch-2": 0.6}
REFERENCES = {"input": 0.0, "autoencoder": -0.1, "non-local means": 0.3, "bilateral": 0.25, "unsharp mask": -0.2}

SETTING: dict[str, float] = {
    "strength": 0.1,
    "start_noise": 0.0,
    "steps": 1,
    "num_inference_steps": 10,
    "start_timestep": 99,
    "detail_return": 1.0,
}


@pytest.fixture
def swept(photos: Path, miniature: Path, tmp_path: Path) -> tuple[Workspace, Experiment]:
    """A workspace with a trained and swept round 0; training and sweep are stood in for by their files."""
    workspace = create_workspace(tmp_path, "pocket", photos, hold_out=0.25).workspace
    settings = [f"base.model={miniature}", "scoring.perceptual=gmsd", "data.test_size=null"]
    experiment = apply_overrides(load_preset("pocket"), settings)
    prepare(workspace, experiment)
    begin_round(workspace, experiment, 0)
    study = workspace.study("pocket")
    names = [path.stem for path in list_photos(workspace.test)]
    for name in names:
        clean = read_rgb(workspace.test / f"{name}.png").astype(float)
        degraded = read_rgb(workspace.test_degraded / f"{name}.png").astype(float)
        write_png(study.root / "test" / "original" / f"{name}.png", clean.astype(np.uint8))
        for cell, share in (CELLS | REFERENCES).items():
            mixed = (degraded + share * (clean - degraded)).round().clip(0, 255).astype(np.uint8)
            write_png(study.cells / cell / f"{name}.png", mixed)
            write_json(study.cells / cell / "cell.json", {})
    cells = [{"id": cell, "kind": "lora", "epoch": int(cell[-1]), **SETTING} for cell in CELLS if cell != "base"]
    cells.append({"id": "base", "kind": "base", "epoch": None, **SETTING})
    references = [{"id": name, "kind": "reference", "name": name} for name in REFERENCES]
    folder = study.round(0)
    write_json(folder.sweep_done, {"test": names, "cells": cells, "references": references})
    write_json(
        folder.training_done,
        {"images": 240, "epochs": 2, "stopped": "complete", "photos": 6, "checkpoints": [], "reading": ["It falls."]},
    )
    rows = [
        {"images": 50 * n, "epoch": n / 2, "update": n, "loss": 0.1 / n, "learning_rate": 1e-3} for n in range(1, 5)
    ]
    folder.train_log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"images": 25')
    return workspace, experiment


def finish(swept: tuple[Workspace, Experiment]) -> dict:
    return finish_round(*swept, 0, {"training.learning_rate": 1e-3}, "the experiment as written")


def test_the_result_names_the_winner_and_what_it_beats(swept: tuple[Workspace, Experiment]) -> None:
    result = finish(swept)
    rows = {part: result[part]["id"] for part in ("winner", "input", "base", "classical", "autoencoder")}
    expected = {"winner": "epoch-2", "input": "input", "base": "base", "classical": "non-local means"}
    assert rows == expected | {"autoencoder": "autoencoder"}
    assert result["beats"] == {"input": True, "classical": True, "base": True}
    assert result["perceptual"]["name"] == "GMSD" and result["pruned"] is False
    assert result["reading"] == ["It falls."]
    study = swept[0].study("pocket")
    assert read_results(study) == [result] == [json.loads(study.round(0).result.read_text())]
    assert json.loads(study.round(0).diagnosis.read_text()) == result["diagnosis"] != []
    words = result_in_words(result)
    assert "epoch 2" in words and "beats the degraded input" in words and "does not" not in words


def test_finishing_again_changes_no_byte(swept: tuple[Workspace, Experiment]) -> None:
    finish(swept)
    root = swept[0].study("pocket").root
    before = {path: file_digest(path) for path in root.rglob("*") if path.is_file()}
    finish(swept)
    assert {path: file_digest(path) for path in root.rglob("*") if path.is_file()} == before
    assert len(read_results(swept[0].study("pocket"))) == 1


def test_a_round_belongs_to_its_experiment_and_photographs(swept: tuple[Workspace, Experiment]) -> None:
    workspace, experiment = swept
    digest = begin_round(workspace, experiment, 0)
    longer = with_values(experiment, {"tuning.rounds": 9, "training.time_limit": 5})
    assert begin_round(workspace, longer, 0) == digest, "more rounds or time do not make another round"
    assert load_experiment(workspace.study("pocket").round(0).experiment) == longer
    with pytest.raises(ConfigError, match="was made from other settings"):
        begin_round(workspace, with_values(experiment, {"adapter.rank": 4}), 0)
    assert load_experiment(workspace.study("pocket").round(0).experiment) == longer
    list_photos(workspace.test_degraded)[0].write_bytes(list_photos(workspace.test)[0].read_bytes())
    with pytest.raises(ConfigError, match="was made from other settings, photographs"):
        finish(swept)


def test_a_sweep_without_lora_cells_is_refused(swept: tuple[Workspace, Experiment]) -> None:
    folder = swept[0].study("pocket").round(0)
    sweep = json.loads(folder.sweep_done.read_text())
    write_json(folder.sweep_done, sweep | {"cells": sweep["cells"][-1:]})
    with pytest.raises(DataError, match="no row for 'winner'"):
        finish(swept)
    assert not folder.result.exists()
