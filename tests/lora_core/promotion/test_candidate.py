"""What becomes of a study's best round when it is promoted: its files, its settings, its card."""

import ast
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_preset, save_experiment, with_values
from lora_core.files import file_digest, read_json, write_json
from lora_core.lineage import append_ledger
from lora_core.promotion.standing import rule
from lora_core.scoring.scorer import SCORES
from lora_core.workspace import Workspace

ROW = {"psnr_y": 27.5, "psnr_rgb": 26.0, "ssim_y": 0.8, "ssim_rgb": 0.79, "perceptual": 0.2, "photos": 9}
GAINS = {"gain_psnr_y": 1.25, "gain_ssim_y": 0.05, "gain_perceptual": 0.15}

PHOTOS = ("a", "b")
DIALS = {"guidance_scale": 1.0, "sampler": "ddim", "lora_scale": 1.0, "colour_fix": "none", "seed": 0}


def finish_round(
    workspace: Workspace, experiment: Experiment, number: int, composite: float, **setting: Any
) -> dict[str, Any]:
    """A finished round with checkpoints of epochs 2 and 4, of which the first wins."""
    folder = workspace.study(experiment.name).round(number)
    checkpoints = []
    for epoch in (2, 4):
        name = f"checkpoints/{experiment.name}-{epoch:06}"
        (folder.root / name).mkdir(parents=True)
        kohya = folder.root / f"{name}.safetensors"
        kohya.write_bytes(f"kohya {number} {epoch}".encode())
        (folder.root / name / "pytorch_lora_weights.safetensors").write_bytes(f"diffusers {number} {epoch}".encode())
        checkpoints.append(
            {
                "epoch": epoch,
                "file": f"{name}.safetensors",
                "kohya": f"{name}.safetensors",
                "diffusers": name,
                "digest": file_digest(kohya),
            }
        )
    save_experiment(experiment, folder.experiment)
    write_json(
        folder.training_done,
        {"images": 640, "epochs": 4, "stopped": "time limit", "photos": 20, "checkpoints": checkpoints},
    )
    cell = {"strength": 0.1, "start_noise": 0.0, "steps": 1, "num_inference_steps": 10, "detail_return": 0.5}
    cell |= {**DIALS, **setting}
    winner = {**ROW, **GAINS, **cell, "start_timestep": 99, "name": "epoch 2", "epoch": 2, "composite": composite}
    winner["id"] = "won"
    other = {**ROW, "composite": 0.0, "id": "input"}
    rows = [
        {"id": row["id"], "photo": photo, **{name: row[name] for name in SCORES}, "composite": row["composite"]}
        for row in (winner, other)
        for photo in PHOTOS
    ]
    pl.DataFrame(rows).write_parquet(folder.photo_table)
    result = {
        **{"round": number, "digest": "r" * 64, "base_digest": "b" * 64, "dataset_digest": "d" * 64, "changes": {}},
        "test_digest": "t" * 64,
        **{
            "reason": "the experiment as written",
            "winner": winner,
            "input": other,
            "base": other,
            "autoencoder": other,
        },
        "classical": {**other, "name": "bilateral"},
        "perceptual": {"name": "GMSD", "reason": "LPIPS is missing"},
        "beats": {"input": composite > 0, "classical": False, "base": True},
    }
    append_ledger(workspace.study(experiment.name), result)
    return result


def crown(workspace: Workspace, experiment: Experiment) -> str:
    """As the command line does it."""
    return rule(workspace, experiment, "best").words


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_round_no_champion(tmp_path: Path) -> None:
    assert "no candidate" in crown(Workspace(tmp_path), load_preset("pocket"))
    assert not (tmp_path / "output").exists()


def test_the_first_of_the_best_rounds_is_crowned_in_both_formats(tmp_path: Path) -> None:
    workspace, experiment = Workspace(tmp_path), load_preset("pocket")
    for number, composite in enumerate([1.0, 2.0, 2.0, 1.5]):
        finish_round(workspace, experiment, number, composite)
    assert str(workspace.champions / "0001-") in (words := crown(workspace, experiment))
    assert words.endswith(str(workspace.champion))
    files = contents(workspace.champion)
    assert sorted(files) == [
        "README.md",
        "diffusers/pytorch_lora_weights.safetensors",
        "pocket.safetensors",
        "promotion.json",
        "scores.json",
        "settings.json",
    ]
    assert files["pocket.safetensors"] == b"kohya 1 2"
    assert files["diffusers/pytorch_lora_weights.safetensors"] == b"diffusers 1 2"
    settings = read_json(workspace.champion / "settings.json")
    wanted = {"strength": 0.1, "start_noise": 0.0, "steps": 1, "num_inference_steps": 10, "detail_return": 0.5}
    wanted |= {**DIALS, "timestep_spacing": "trailing", "prompt": "a photo"}
    wanted |= {"resolution": 128, "round": 1, "epoch": 2, "composite": 2.0, "beats_input": True, "photos": 9}
    assert {key: settings[key] for key in wanted} == wanted
    assert settings["lora_digest"] == file_digest(workspace.champion / settings["lora"])
    assert settings["base"]["model"] == "pocket" and settings["base"]["digest"] == "b" * 64
    assert settings["scores"]["psnr_y"] == 27.5 and settings["gains"]["perceptual"] == 0.15
    crown(workspace, experiment)
    assert contents(workspace.champion) == files


def test_the_settings_are_those_of_the_round_as_it_was_run(tmp_path: Path) -> None:
    workspace, written = Workspace(tmp_path), load_preset("pocket")
    run = with_values(written, {"adapter.rank": 13, "sweep.timestep_spacing": "leading"})
    finish_round(workspace, run, 0, 1.0, guidance_scale=2.0, lora_scale=0.8)
    crown(workspace, written)
    settings, card = read_json(workspace.champion / "settings.json"), (workspace.champion / "README.md").read_text()
    assert settings["guidance_scale"] == 2.0 and settings["timestep_spacing"] == "leading"
    assert "rank 13" in card


@pytest.mark.parametrize("composite", [-0.5, 0.5])
def test_a_champion_that_does_not_beat_the_input_says_so_first(tmp_path: Path, composite: float) -> None:
    workspace, experiment = Workspace(tmp_path), load_preset("pocket")
    finish_round(workspace, experiment, 0, composite)
    crown(workspace, experiment)
    card = (workspace.champion / "README.md").read_text()
    assert ("does not beat the degraded input" in card.splitlines()[0]) == (composite < 0)
    assert ("- It does not beat the degraded input." in card) == (composite < 0)
    assert "- It does not beat bilateral" in card
    assert read_json(workspace.champion / "settings.json")["beats_input"] == (composite > 0)


def test_the_card_tells_what_a_reader_needs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    base = {"base.model": "model/realistic.safetensors", "base.precision": "fp16", "data.prompt": 'a "sharp" photo'}
    base |= {"training.epochs": 20}
    finish_round(workspace, with_values(load_preset("pocket"), base), 0, 2.0)
    crown(workspace, load_preset("pocket"))
    card = (workspace.champion / "README.md").read_text()
    for words in (
        "PSNR-Y by +1.25 dB",
        "GMSD, by -15.0%",
        "| degraded input | 27.50 | 26.00 | 0.8000 | 0.7900 | 0.2000 | +0.00 |",
        "Y of YCbCr (BT.601",
        "20 photographs and their degraded twins (preset `pocket`",
        "b" * 64,
        "d" * 64,
        "<lora:pocket:1>",
        "denoising strength 0.1",
        "sampling steps 10",
        "a start noise of 0 (they always start with all of it) and a detail return of 0.5",
        "only Photo Enhancer reproduces the scores",
        "`settings.json` holds everything",
        "ended by its time limit in epoch 4 of 20",
    ):
        assert words in card, words
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    constants = {node.value for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Constant)}
    assert {"model/realistic.safetensors", 'a "sharp" photo', "trailing", "diffusers", 0.1, 10} <= constants
    assert "from_single_file" in snippet and "torch.float16" in snippet


def test_settings_that_every_program_has_lose_nothing_elsewhere(tmp_path: Path) -> None:
    workspace, hub = Workspace(tmp_path), with_values(load_preset("pocket"), {"base.model": "hub/base"})
    finish_round(workspace, hub, 0, 1.0, start_noise=1.0, detail_return=0.0)
    crown(workspace, hub)
    card = (workspace.champion / "README.md").read_text()
    assert "expect less" not in card and "from_pretrained('hub/base'" in card


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda round_: (round_ / "checkpoints/pocket-000002.safetensors").write_bytes(b"x"), "not the file that was"),
        (lambda round_: (round_ / "checkpoints/pocket-000002.safetensors").unlink(), "is missing"),
        (lambda round_: next(round_.glob("checkpoints/*2/pytorch*")).unlink(), "is missing"),
        (lambda round_: write_json(round_ / "training/done.json", {"checkpoints": []}), "no checkpoint of epoch 2"),
    ],
)
def test_the_champion_stays_when_the_next_one_is_not_whole(tmp_path: Path, spoil: Any, message: str) -> None:
    workspace, experiment = Workspace(tmp_path), load_preset("pocket")
    finish_round(workspace, experiment, 0, 1.0)
    crown(workspace, experiment)
    before = contents(workspace.champion)
    finish_round(workspace, experiment, 1, 2.0)
    spoil(workspace.study("pocket").round(1).root)
    with pytest.raises(DataError, match=message):
        crown(workspace, experiment)
    assert contents(workspace.champion) == before
    assert sorted(path.name for path in workspace.output.iterdir()) == ["champion", "pocket"]
