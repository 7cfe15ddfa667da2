"""The candidate: a study's best LoRA in both formats, with the settings it was scored with, its scores and its card."""

import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import file_digest, read_json, value_digest, write_json, write_text
from lora_core.lineage import read_results
from lora_core.model_card import model_card
from lora_core.promotion.scores import PhotoScores, scores_of
from lora_core.promotion.versions import CARD_FILE, DIFFUSERS_FOLDER, SCORES_FILE, SETTINGS_FILE
from lora_core.scoring.conclusions import best_result
from lora_core.workspace import RoundFolder, Workspace

_METRICS = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")
_GAINS = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual")


@dataclass(frozen=True)
class Candidate:
    """A study's best round, as it would be the champion.

    Attributes:
        folder: the round's.
        run: its experiment, its changes applied.
        result: its `result.json`.
        settings: what it takes to get the scored pictures again, and the scores; `settings.json` of the champion.
        scores: of the winner by photograph.
    """

    folder: RoundFolder
    run: Experiment
    result: dict[str, Any]
    done: dict[str, Any]
    checkpoint: dict[str, Any]
    settings: dict[str, Any]
    scores: PhotoScores

    @property
    def round(self) -> int:
        """The round, from 0."""
        return int(self.result["round"])

    @cached_property
    def digest(self) -> str:
        """sha256 of settings and scores, and so of the LoRA: the same candidate is one champion."""
        return value_digest([self.settings, asdict(self.scores)])

    def write(self, champion: Path) -> None:
        """Puts everything into a folder."""
        if self.checkpoint["kohya"]:
            shutil.copyfile(self.folder.root / self.checkpoint["kohya"], champion / self.settings["lora"])
        shutil.copytree(self.folder.root / self.checkpoint["diffusers"], champion / DIFFUSERS_FOLDER)
        write_json(champion / SETTINGS_FILE, self.settings)
        self.scores.write(champion / SCORES_FILE)
        write_text(champion / CARD_FILE, model_card(self.run, self.result, self.done, self.settings))


def find_candidate(workspace: Workspace, experiment: Experiment) -> Candidate | None:
    """The winner of the best round (`best_result`); None where no round has scores.

    A round that does not beat the degraded input can win too, for it is the best there is; `beats_input` in the
    settings and the first line of the card say so.

    Raises:
        DataError: a file of the round is missing or changed since it was scored.
    """
    study = workspace.study(experiment.name)
    best = best_result(read_results(study))
    if best is None:
        return None
    folder = study.round(best["round"])
    run = load_experiment(folder.experiment)
    done = read_json(folder.training_done)
    checkpoint = _checkpoint(folder, done, best["winner"]["epoch"])
    settings = _settings(run, best, checkpoint)
    return Candidate(folder, run, best, done, checkpoint, settings, scores_of(folder, run, best))


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
