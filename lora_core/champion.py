"""The champion: the best round's LoRA in both formats, the settings it was scored with, and its model card."""

import shutil
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import file_digest, read_json, whole_folder, write_json, write_text
from lora_core.lineage import read_results
from lora_core.model_card import model_card
from lora_core.scoring import rank
from lora_core.workspace import RoundFolder, Workspace

SETTINGS_FILE = "settings.json"
CARD_FILE = "README.md"
DIFFUSERS_FOLDER = "diffusers"

_METRICS = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")
_GAINS = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual")


def crown(workspace: Workspace, experiment: Experiment) -> Path | None:
    """Writes `output/champion/` from the best round as `scoring.rank` has it, the earlier of equals.

    A round that does not beat the degraded input is crowned too, for it is the best there is; `beats_input` in the
    settings and the first line of the card say so. The champion before is replaced when the new one is complete.

    Returns:
        The champion's folder, or None where no round has scores.

    Raises:
        DataError: a file of the round is missing or changed since it was scored.
    """
    study = workspace.study(experiment.name)
    results = [result for result in read_results(study) if result["winner"]]  # those that were given up have none
    if not results:
        return None
    best = max(results, key=lambda result: rank(result["winner"]))
    folder = study.round(best["round"])
    run = load_experiment(folder.experiment)
    done = read_json(folder.training_done)
    checkpoint = _checkpoint(folder, done, best["winner"]["epoch"])
    settings = _settings(run, best, checkpoint)
    with whole_folder(workspace.champion) as champion:
        if checkpoint["kohya"]:
            shutil.copyfile(folder.root / checkpoint["kohya"], champion / settings["lora"])
        shutil.copytree(folder.root / checkpoint["diffusers"], champion / DIFFUSERS_FOLDER)
        write_json(champion / SETTINGS_FILE, settings)
        write_text(champion / CARD_FILE, model_card(run, best, done, settings))
    return workspace.champion


def _checkpoint(folder: RoundFolder, done: dict[str, Any], epoch: int) -> dict[str, Any]:
    """The winner's entry in `done.json`, its files checked."""
    found = [checkpoint for checkpoint in done["checkpoints"] if checkpoint["epoch"] == epoch]
    if not found:
        raise DataError(f"{folder.training_done} names no checkpoint of epoch {epoch}, which won; run the round again")
    scored = folder.root / found[0]["file"]
    for path in (scored, folder.root / found[0]["diffusers"] / "pytorch_lora_weights.safetensors"):
        if not path.is_file():
            raise DataError(f"{path} is missing; run the round again")
    if file_digest(scored) != found[0]["digest"]:
        raise DataError(f"{scored} is not the file that was scored; run the round again")
    return found[0]


def _settings(run: Experiment, best: dict[str, Any], checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What it takes to get the scored pictures again, and the scores."""
    winner = best["winner"]
    return {
        "name": run.name,
        "lora": f"{run.name}.safetensors" if checkpoint["kohya"] else None,
        "lora_digest": checkpoint["digest"],
        "diffusers": DIFFUSERS_FOLDER,
        "base": {**run.base.model_dump(mode="json"), "digest": best["base_digest"]},
        "prompt": run.data.prompt,
        "strength": winner["strength"],
        "start_noise": winner["start_noise"],
        "steps": winner["steps"],
        "num_inference_steps": winner["num_inference_steps"],
        "start_timestep": winner["start_timestep"],
        "detail_return": winner["detail_return"],
        "lora_scale": winner["lora_scale"],
        "colour_fix": winner["colour_fix"],
        "guidance_scale": winner["guidance_scale"],
        "sampler": winner["sampler"],
        "seed": winner["seed"],
        "timestep_spacing": run.sweep.timestep_spacing,
        "resolution": run.data.resolution,
        "round": best["round"],
        "epoch": winner["epoch"],
        "photos": winner["photos"],
        "perceptual": best["perceptual"],
        "scores": {key: winner[key] for key in _METRICS},
        "gains": {key.removeprefix("gain_"): winner[key] for key in _GAINS},
        "composite": winner["composite"],
        "beats_input": best["beats"]["input"],
        "beats": best["beats"],
        "dataset_digest": best["dataset_digest"],
        "digest": best["digest"],
    }
