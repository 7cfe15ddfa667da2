"""A base that is trained here, interrupted anywhere or not, is the same base, and opens like any Stable Diffusion."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline

from lora_core.bases.stable_diffusion import open_base
from lora_core.errors import ConfigError, ResourceError, TrainingError, UserError
from lora_core.experiment import BaseModelSection
from lora_core.files import read_json
from lora_core.pretraining import worker
from lora_core.pretraining.autoencoder import fix_encoder, principal_components
from lora_core.pretraining.data.survey import survey
from lora_core.pretraining.evaluation import finish_base
from lora_core.pretraining.launch import begin, run_stage, settle_recipe
from lora_core.pretraining.loop import Loop
from lora_core.pretraining.recipe import Recipe, change_recipe, recipe_from
from lora_core.pretraining.work import BaseWork
from lora_core.settings import save_settings
from lora_core.training.log import read_log
from tests.waiting import wait

TINY = {
    "name": "tiny",
    "data": {"source": "synthetic", "num_samples": 24, "image_size": 64, "train_split": 0.75, "cache": "none"},
    "autoencoder": {
        "width": 48,
        "latent_channels": 4,
        "decoder_blocks": [0, 0, 0],
        "crop": 32,
        "epochs": 1,
        "batch": 4,
    },
    "unet": {"channels": [16, 32], "heads": 2, "text_width": 32, "text_layers": 1},
    "training": {
        "epochs": 3,
        "batch": 4,
        "learning_rate": 0.02,
        "optimizer": "muon",
        "warmup": 8,
        "ema": 16,
        "checkpoint_every": 1,
        "samples_every": 3,
        "state_every": 8,
    },
    "evaluation": {"images": 3, "timesteps": [25, 500], "prompts": ["a red circle"], "steps": 2},
}


def begun(folder: Path, *changes: str) -> tuple[BaseWork, Recipe]:
    """A base training whose images are surveyed."""
    work, recipe = BaseWork(folder), change_recipe(recipe_from(TINY, "test"), list(changes))
    begin(work, recipe)
    return work, recipe


def train(work: BaseWork, recipe: Recipe) -> dict[str, str]:
    """Both stages; digests of the trained weights."""
    worker.train_autoencoder(work, recipe)
    worker.train_unet(work, recipe)
    return digests(work)


def digests(work: BaseWork) -> dict[str, str]:
    """sha256 of every weight file of the last checkpoints, and of the validations."""
    files = [*work.autoencoder.checkpoints.rglob("*.safetensors"), *work.unet.checkpoints.rglob("*.safetensors")]
    files += [work.autoencoder.validations, work.unet.validations]
    return {str(file.relative_to(work.root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[BaseWork, Recipe, dict[str, str]]:
    work, recipe = begun(tmp_path_factory.mktemp("base"))
    return work, recipe, train(work, recipe)


class Killed(BaseException):
    """In place of a kill: nothing in the project catches it."""


@pytest.mark.parametrize("update", [1, 3, 5, 9, 13])
def test_a_run_that_ends_at_any_update_goes_on_to_the_undisturbed_weights(undisturbed, update, tmp_path, monkeypatch):
    work, recipe = begun(tmp_path)
    original, calls = Loop._update, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == update + 1:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(Loop, "_update", dying)
    with pytest.raises(Killed):
        train(work, recipe)
    assert train(work, recipe) == undisturbed[2]


@pytest.mark.parametrize("hook", ["_validated", "_checkpoint", "_samples", "_save", "_prune"])
def test_a_run_that_ends_while_it_writes_goes_on_to_the_undisturbed_weights(undisturbed, hook, tmp_path, monkeypatch):
    work, recipe = begun(tmp_path)
    original, calls = getattr(worker.Recorder, hook), []

    def dying(self, *arguments):
        calls.append(1)
        original(self, *arguments)
        if len(calls) == 2:
            raise Killed

    monkeypatch.setattr(worker.Recorder, hook, dying)
    with pytest.raises(Killed):
        train(work, recipe)
        train(work, recipe)  # a hook that is called once a stage
        raise Killed
    assert train(work, recipe) == undisturbed[2]


def test_a_killed_process_goes_on_to_the_undisturbed_weights(undisturbed, tmp_path):
    work, recipe = begun(tmp_path)
    command = [sys.executable, "-m", "lora_core.pretraining.worker", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    worker.train_autoencoder(work, recipe)
    child = subprocess.Popen([*command, "unet", str(tmp_path / "error.json")], env=environment)
    wait((work.unet.state / "state.json").exists, "the first state", 120, every=0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not work.unet.done.exists()
    run_stage(work, "unet")
    assert digests(work) == undisturbed[2]


def test_the_base_opens_in_the_pipelines_of_diffusers_and_carries_its_card(undisturbed):
    work, recipe, _ = undisturbed
    finish_base(work, recipe)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(work.base, safety_checker=None, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = np.zeros((1, 64, 64, 3), np.float32)
    shown = pipeline("a red circle", image=picture, strength=0.5, num_inference_steps=4, output_type="np").images
    assert shown.shape == (1, 64, 64, 3) and np.isfinite(shown).all()
    assert open_base(BaseModelSection(model=str(work.base)), torch.device("cpu")).factor == 4
    card, values = (work.base / "README.md").read_text("utf-8"), read_json(work.evaluation)
    assert "synthetic" in card and f"{values['psnr_rgb']:.2f} dB" in card and "seed: 0" in card
    assert set(values["loss_by_timestep"]) == {"25", "500"}
    assert "state_every: 8" in card and values["fid"] is None and "distance_images" in values["distances_note"]
    done = read_json(work.unet.done)
    assert done["stopped"] == "complete" and done["epochs"] >= 3 and 0 < done["busy"] <= 1
    assert [row["epoch"] for row in done["checkpoints"]] == [1, 2, 3]
    assert "_name_or_path" not in read_json(work.base / "vae/config.json")
    assert list(work.unet.samples.glob("*.png")) and list(work.autoencoder.samples.glob("*.png"))


def test_a_base_is_continued_with_a_backup_and_counts_on(undisturbed, tmp_path):
    work, recipe, _ = undisturbed
    finish_base(work, recipe)
    longer, plan = begun(tmp_path, f"resume={work.base}", "training.epochs=4", "training.checkpoint_every=4")
    worker.train_unet(longer, plan)
    done, first = read_json(longer.unet.done), read_log(longer.unet.log)[0]
    epoch = read_json(work.base / "training.json")["epochs"]
    assert done["references"]["base"]["loss"] > 0 and 4 <= done["epochs"] < 5 and first["epoch"] > epoch
    (backup,) = longer.backup.iterdir()
    assert (backup / "unet").is_dir() and read_json(backup / "training.json")["epochs"] == epoch
    assert not longer.autoencoder.root.exists()
    again, plan = begun(tmp_path / "again", f"resume={work.base}", "training.epochs=1")
    with pytest.raises(ConfigError, match=r"training.epochs is 1, .* was trained for \d already"):
        worker.train_unet(again, plan)


def test_cached_latents_train_and_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr("lora_core.pretraining.latents.PART", 7)
    work, recipe = begun(tmp_path, "data.cache=latents", "training.epochs=1")
    train(work, recipe)
    parts = sorted(work.latents.glob("part-*[0-9].npy"))
    stamps = [part.stat().st_mtime_ns for part in parts]
    assert len(parts) == -(-read_json(work.data / "survey.json")["train"] // 7)
    work.unet.done.unlink()
    parts[-1].unlink()
    worker.train_unet(work, recipe)
    assert [part.stat().st_mtime_ns for part in parts[:-1]] == stamps[:-1] and parts[-1].exists()
    other = change_recipe(recipe, ["data.image_size=56"])
    work.unet.done.unlink()
    with pytest.raises(ConfigError, match="holds the latents of other images"):
        worker.train_unet(work, other)


def test_two_processes_train_what_one_trains(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    curves = []
    for processes, batch in ((1, 4), (2, 2)):
        settings = [f"training.processes={processes}", f"training.batch={batch}", f"autoencoder.batch={batch}"]
        work, _ = begun(tmp_path / str(processes), *settings, "training.epochs=2", "training.optimizer=adamw")
        run_stage(work, "unet")
        curves.append([row["loss"] for row in read_log(work.unet.validations)])
    assert len(curves[0]) == 2
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-4)


def test_training_stops_on_a_plateau_after_halving_the_rate(tmp_path):
    changes = ["training.epochs=40", "training.min_improvement=0.9", "training.patience=4", "training.halve_after=2"]
    work, recipe = begun(tmp_path, *changes, "training.checkpoint_every=40", "training.samples_every=40")
    worker.train_unet(work, recipe)
    done, rates = read_json(work.unet.done), [row["learning_rate"] for row in read_log(work.unet.log)]
    assert done["stopped"] == "plateau" and len(read_log(work.unet.validations)) < 40
    halvings = [one for one, then in pairwise(rates) if then < 0.6 * one]
    assert len(halvings) == 1  # after two validations without improvement; after four the run ends
    assert len(done["checkpoints"]) == 1 and (work.unet.checkpoints / done["checkpoints"][0]["folder"]).exists()


def test_checkpoints_are_pruned_to_their_budget(tmp_path):
    work, recipe = begun(tmp_path, "training.epochs=5", "training.keep_gib=0.0001", "training.samples_every=9")
    worker.train_unet(work, recipe)
    kept = {row["epoch"] for row in read_json(work.unet.done)["checkpoints"]}
    losses = [row["loss"] for row in read_log(work.unet.validations)]
    assert kept == {5, 1 + int(np.argmin(losses))}
    assert {path.name for path in work.unet.checkpoints.iterdir()} == {f"epoch-{epoch:06d}" for epoch in kept}


def test_a_state_of_another_architecture_or_recipe_is_refused(tmp_path, monkeypatch):
    work, recipe = begun(tmp_path)
    monkeypatch.setattr(worker.Recorder, "result", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        worker.train_unet(work, recipe)
    with pytest.raises(ConfigError, match=r"state of another architecture \(.* differs\)"):
        worker.train_unet(work, change_recipe(recipe, ["unet.channels=[32, 32]"]))
    with pytest.raises(ConfigError, match="state of another recipe or data set"):
        worker.train_unet(work, change_recipe(recipe, ["training.learning_rate=0.01"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["unet.config=nowhere.json"], "unet.config: nowhere.json"),
        (["unet.channels=[20, 30]"], "use multiples of 16"),
        (["autoencoder.model=/nowhere"], "/nowhere holds no autoencoder"),
        (["autoencoder.encoder=trained"], "holds no trained autoencoder yet"),
        (["data.cache=latents", "data.framing=crop"], "data.framing=resize"),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path, changes, message):
    work, recipe = begun(tmp_path, *changes)
    with pytest.raises(UserError, match=message):
        worker.train_unet(work, recipe)


def test_a_wrong_unet_file_and_any_sd_shaped_one(tmp_path):
    unet = read_json(begun_unet(tmp_path))
    work, recipe = begun(tmp_path / "wrong", f"unet.config={tmp_path / 'unet.json'}", "autoencoder.latent_channels=8")
    with pytest.raises(ConfigError, match="has 4 input and 4 output channels, the autoencoder's latents have 8"):
        worker.train_unet(work, recipe)
    work, recipe = begun(tmp_path / "right", f"unet.config={tmp_path / 'unet.json'}", "training.epochs=1")
    worker.train_unet(work, recipe)
    assert read_json(work.unet.checkpoints / "epoch-000001/unet/config.json")["layers_per_block"] == 2
    assert unet["layers_per_block"] == 2


def begun_unet(folder: Path) -> Path:
    """A UNet configuration with attention at every resolution."""
    values = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [16, 32],
        "layers_per_block": 2,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    (folder / "unet.json").write_text(json.dumps(values))
    return folder / "unet.json"


def test_an_autoencoder_of_kullback_leibler_kind_serves_too(tmp_path):
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    autoencoder.save_pretrained(tmp_path / "kl")
    work, recipe = begun(tmp_path / "work", f"autoencoder.model={tmp_path / 'kl'}", "training.epochs=1")
    worker.train_unet(work, recipe)
    finish_base(work, recipe)
    assert open_base(BaseModelSection(model=str(work.base)), torch.device("cpu")).factor == 2


def test_the_disk_is_checked_before_the_first_update(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20})())
    with pytest.raises(ResourceError, match="a base training needs about 256 MiB"):
        begun(tmp_path)


def test_a_loss_that_is_not_finite_names_the_images_and_keeps_the_last_state(tmp_path, monkeypatch):
    work, recipe = begun(tmp_path, "training.epochs=9")
    original, calls = worker.UNetStage.loss, []

    def breaking(self, batch):
        calls.append(1)
        return original(self, batch) * (float("nan") if len(calls) == 21 else 1)

    monkeypatch.setattr(worker.UNetStage, "loss", breaking)
    with pytest.raises(TrainingError, match=r"not finite|the loss is nan at update 21 \(files: .*tar"):
        worker.train_unet(work, recipe)
    assert read_json(work.unet.state / "state.json")["updates"] <= 20


def test_the_principal_encoder_is_the_projection(tmp_path):
    from lora_core.pretraining.autoencoder import build_autoencoder
    from lora_core.pretraining.stages import open_streams

    work, recipe = begun(tmp_path, "autoencoder.latent_channels=48", "autoencoder.encoder_blocks=[1, 1, 1]")
    stream, _ = open_streams(work, recipe, lambda *_: None)
    autoencoder = build_autoencoder(recipe.autoencoder, 0, stream)
    pixels = stream.pixels(range(64), 64)
    weights, bias = principal_components(pixels, 48)
    fix_encoder(autoencoder.encoder, weights, bias)
    with torch.no_grad():
        latents = autoencoder.encode(torch.from_numpy(pixels)).latents
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(pixels), torch.from_numpy(weights), torch.from_numpy(bias), 4
    )
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    deviation = latents.std(dim=(0, 2, 3))
    assert (deviation[:-1] >= deviation[1:] - 1e-3).all()  # components fall in variance
    directions = torch.from_numpy(weights).flatten(1)
    cosines = torch.nn.functional.normalize(directions) @ torch.nn.functional.normalize(directions).T
    torch.testing.assert_close(cosines, torch.eye(48), atol=1e-3, rtol=0)


def test_a_recipe_is_needed_and_kept(tmp_path):
    with pytest.raises(ConfigError, match=r"--preset pocket, or --recipe FILE"):
        settle_recipe(BaseWork(tmp_path), None, None, ())
    with pytest.raises(ConfigError, match=r"unknown key 'training\.epoch'; did you mean 'training\.epochs'"):
        settle_recipe(BaseWork(tmp_path), None, "pocket", ("training.epoch=3",))
    recipe = settle_recipe(BaseWork(tmp_path), None, "pocket", ("training.epochs=3",))
    save_settings(recipe, tmp_path / "recipe.yaml")
    assert settle_recipe(BaseWork(tmp_path), None, None, ()) == recipe


def test_the_survey_is_done_once(undisturbed):
    work, recipe, _ = undisturbed
    before = (work.data / "manifest" / "train.rows").stat().st_mtime_ns
    survey(recipe, work.data)
    assert (work.data / "manifest" / "train.rows").stat().st_mtime_ns == before


def test_a_time_limit_ends_at_a_checkpoint_and_a_longer_one_goes_on(undisturbed, tmp_path):
    work, recipe = begun(tmp_path)
    worker.train_autoencoder(work, recipe)
    short = change_recipe(recipe, ["training.time_limit=0.0001"])
    worker.train_unet(work, short)
    done = read_json(work.unet.done)
    assert done["stopped"] == "time limit" and done["checkpoints"]
    worker.train_unet(work, short)
    assert read_json(work.unet.done) == done
    worker.train_unet(work, recipe)
    assert read_json(work.unet.done)["stopped"] == "complete"
    states = (torch.load(one.unet.state / "state.pt", weights_only=True) for one in (work, undisturbed[0]))
    weights, expected = (state["weights"] for state in states)
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


def test_v_prediction_and_restored_images(tmp_path):
    changes = ["unet.prediction=v_prediction", "unet.restoration_share=0.5", "training.epochs=1"]
    work, recipe = begun(tmp_path, *changes)
    worker.train_unet(work, recipe)
    scheduler = read_json(work.unet.checkpoints / "epoch-000001/scheduler/scheduler_config.json")
    (row,), done = read_log(work.unet.validations), read_json(work.unet.done)
    assert scheduler["prediction_type"] == "v_prediction" and scheduler["timestep_spacing"] == "trailing"
    assert row["damage_left"] > 0
    denoising = np.mean(list(row["by_timestep"].values()))
    assert row["loss"] == pytest.approx((denoising + row["damage_left"]) / 2)
    assert all(0 < value < 2 for value in done["references"]["mean_predictor"].values())
    work.unet.done.unlink()
    with pytest.raises(ConfigError, match=r"or data\.cache=none"):
        worker.train_unet(work, change_recipe(recipe, ["data.cache=latents"]))


def test_a_denoising_sample_is_the_restoring_one_without_damage_and_with_all_noise():
    from lora_core.objectives import NoiseSchedule, denoise, direct, forecast
    from lora_core.pretraining.unet import draw_sample, noise_scheduler

    schedule = NoiseSchedule(noise_scheduler("epsilon").alphas_cumprod, "epsilon")
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    places, one = torch.tensor([5, 300, 999]), torch.ones(3)
    made, other = (
        forecast(lambda x, _: 0.3 * x, objective, schedule, clean, clean, noise, places, places, one)
        for objective in (denoise, direct)
    )
    torch.testing.assert_close((made.answer, made.target), (other.answer, other.target))
    section = recipe_from({"unet": {"restoration_share": 0.5}}, "test").unet
    samples = [draw_sample(section, 0, place) for place in range(2000)]
    restored = [sample for sample in samples if sample.restoring]
    assert 0.45 < len(restored) / 2000 < 0.55 and all(20 <= sample.timestep < 300 for sample in restored)
    assert {sample.kappa for sample in samples if not sample.restoring} == {1.0}
    assert 0.4 < np.mean([sample.kappa == 0 for sample in restored]) < 0.6
