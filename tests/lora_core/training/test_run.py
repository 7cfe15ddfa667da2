"""Runs of every kind on the miniature, in this process: what they train, write, and do when something goes wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from lora_core.bases import base_digest
from lora_core.data.pairs import training_pairs
from lora_core.errors import DataError, TrainingError
from lora_core.experiment import Experiment, apply_overrides, load_experiment
from lora_core.files import read_json
from lora_core.formats.reading import read_lora
from lora_core.images import read_rgb, write_png
from lora_core.lora import load_lora
from lora_core.preparation import prepare
from lora_core.training import worker
from lora_core.training.launch import run_digest
from lora_core.training.log import read_log
from lora_core.training.loop import Hooks, Run
from lora_core.training.setup import open_accelerator, set_up
from lora_core.workspace import RoundFolder, Workspace
from tests.small_round import make_workspace

SHORT = ("adapter.text_encoder=false", "training.epochs=1", "monitoring.samples=1", "monitoring.validation_photos=2")


@pytest.fixture
def workspace(tmp_path, miniature, photos) -> Workspace:
    return make_workspace(tmp_path / "work", miniature, photos)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """As in the worker, which `run_of` does without."""
    with torch.no_grad():
        yield


def experiment_of(workspace: Workspace, *settings: str) -> Experiment:
    return apply_overrides(load_experiment(workspace.experiment), [*SHORT, *settings])


def trained(workspace: Workspace, *settings: str) -> tuple[RoundFolder, dict]:
    experiment = experiment_of(workspace, *settings)
    prepare(workspace, experiment)
    worker.train(workspace, experiment, 0)
    folder = workspace.study(experiment.name).round(0)
    return folder, read_json(folder.training_done)


def run_of(workspace: Workspace, *settings: str) -> Run:
    experiment = experiment_of(workspace, *settings)
    prepare(workspace, experiment)
    pairs, base = training_pairs(workspace, experiment), base_digest(experiment.base)
    digest = run_digest(experiment, pairs, base, workspace)
    return set_up(workspace, experiment, pairs, open_accelerator(experiment), base, digest).run


def quiet(**hooks) -> Hooks:
    nothing = lambda *_: None  # noqa: E731
    return Hooks(**{"observe": nothing, "validated": nothing, "checkpoint": nothing, "save": nothing, **hooks})


def caption(workspace: Workspace) -> None:
    for number, path in enumerate(sorted((workspace.train / "3_targets").glob("*.png"))):
        path.with_suffix(".txt").write_text(f"photo number {number}, sharp", encoding="utf-8")


def mask(workspace: Workspace) -> None:
    workspace.masks.mkdir(parents=True)
    for path in (workspace.train / "3_targets").glob("*.png"):
        grey = np.zeros((*read_rgb(path).shape[:2], 3), np.uint8)
        grey[32:96, 32:96] = 255
        write_png(workspace.masks / path.name, grey)


def prior(workspace: Workspace) -> None:
    folder = workspace.prior / "2_photo"
    folder.mkdir(parents=True)
    for path in sorted((workspace.train / "3_targets").glob("*.png"))[:2]:
        write_png(folder / path.name, 255 - read_rgb(path))


def nothing(_: Workspace) -> None:
    pass


@pytest.mark.parametrize(("prepared", "settings", "parts"), [
    (caption, ["data.captions=files", "data.caption_dropout=0.3", "data.framing=bucket", "data.resolution=64"], set()),
    (mask, ["data.masks=folder", "data.unmasked_weight=0.1", "objective.loss=huber"], set()),
    (prior, ["objective.prior_images=0.5", "objective.prior_preservation=0.5"], {"latent", "prior", "preservation"}),
    (nothing, ["objective.pixel_l1=1", "data.cache=false", "training.ema=8"], {"latent", "pixel_l1"}),
    (nothing, ["objective.control=true", "objective.kind=bridge", "adapter.formats=diffusers"], set()),
    (nothing, ["adapter.dora=true", "adapter.formats=diffusers", "training.optimizer=prodigy",
               "training.learning_rate=1"], set()),
    (nothing, ["adapter.text_encoder=true", "adapter.rank_dropout=0.2", "adapter.max_norm=0.5",
               "training.accumulation=2"], set()),
    (nothing, ["base.quantise=nf4", "base.precision=bf16", "training.gradient_checkpointing=true",
               "training.optimizer=schedule-free-adamw", "training.scheduler=constant", "training.warmup=0"], set()),
], ids=["captions+buckets", "masks", "prior", "pixels", "control", "dora", "text+norm", "nf4"])  # fmt: skip
def test_runs_of_every_kind_train_validate_and_save_what_loads(workspace, prepared, settings, parts):
    prepared(workspace)
    folder, done = trained(workspace, *settings)
    rows = read_log(folder.train_log)
    assert rows and all(np.isfinite(row["loss"]) for row in rows)
    assert set(rows[0].get("parts", {})) == parts
    assert sum(len(row["loss_by_timestep"]) for row in rows) >= len(rows)
    base, *validations = (row["loss"] for row in done["validations"])
    assert validations and all(np.isfinite(validations)) and validations[-1] != base
    (checkpoint,) = done["checkpoints"]
    weights = load_lora(folder.root / checkpoint["diffusers"])
    assert any(value.any() for key, value in weights.tensors.items() if "lora_B" in key)
    assert bool(weights.control) == ("objective.control=true" in settings)
    if checkpoint["kohya"]:
        assert read_lora(folder.root / checkpoint["kohya"]).modules() == weights.modules()
    assert [path.suffix for path in (folder.samples / "epoch-000001").iterdir()] == [".png"]
    assert not done["shrunk"] and len(done["reading"]) == 2


def test_the_mask_decides_where_the_loss_counts(workspace):
    mask(workspace)
    run = run_of(workspace, "data.masks=folder", "objective.weighting=none")
    batch = run.batches(range(2))
    assert 0 <= batch.mask.min() < batch.mask.max() <= 1 and batch.mask.shape[2:] == batch.clean.shape[2:]
    (term,) = run.terms
    whole = term(batch)["latent"]
    black = term(type(batch)(**{**batch.__dict__, "mask": torch.zeros_like(batch.mask)}))["latent"]
    assert (black == 0).all() and (whole > 0).all()


def test_preservation_costs_nothing_until_the_lora_says_something_else(workspace):
    run = run_of(workspace, "objective.prior_preservation=1")
    preservation = run.terms[1]
    batch = run.batches(range(2))
    assert preservation(batch)["preservation"].abs().max() < 1e-10
    for parameter in run.adapter.unet.values():
        parameter.data += 0.1
    assert (preservation(batch)["preservation"] > 1e-6).all()


def test_captions_are_dropped_as_often_as_asked_and_every_image_has_its_own(workspace):
    caption(workspace)
    run = run_of(workspace, "data.captions=files", "data.caption_dropout=0.4", "training.epochs=20")
    asked: list[str] = []
    texts = run.batches.texts
    batches = replace(run.batches, texts=lambda captions: asked.extend(captions) or texts(captions))
    batch = batches(range(300))
    assert 0.3 < sum(not text for text in asked) / 300 < 0.5
    for place, text in zip(batch.positions, asked, strict=True):
        assert text in ("", f"photo number {run.plan.sample(place)[0]}, sharp")
    assert len(batch.text().flatten(1).unique(dim=0)) == 6


class Stopped(Exception):
    """Ends a run from a hook."""


def test_a_run_goes_on_with_another_split_and_ends_at_the_same_weights(workspace, tmp_path):
    """Within the noise of sums in another order, which Adam magnifies: the weights move by about 1e-2."""
    ends = []
    for first, then in (((2, 2), (2, 2)), ((4, 1), (2, 2)), ((2, 2), (1, 4))):
        splits = [(f"training.batch={size}", f"training.accumulation={steps}") for size, steps in (first, then)]
        halves = [run_of(workspace, *split) for split in splits]

        def save_and_stop(number, *_, run=halves[0]):
            if number == 2:
                run.state.save(tmp_path / "state")
                raise Stopped

        with pytest.raises(Stopped):
            halves[0].fit(quiet(observe=save_and_stop))
        halves[1].state.restore(tmp_path / "state")
        assert halves[1].state.updates == 2 and halves[1].fit(quiet()) == "complete"
        ends.append(halves[1].adapter.parameters())
    for one, *others in zip(*ends, strict=True):
        for other in others:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_batch_that_runs_out_of_memory_is_halved_once_and_the_run_is_the_same(workspace, caplog):
    calm, tight = (run_of(workspace, "training.batch=4") for _ in range(2))
    losses, calls = tight._losses, []

    def short_of_memory(batch):
        calls.append(len(batch.positions))
        if len(batch.positions) > 2 and len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(batch)

    tight._losses = short_of_memory
    assert calm.fit(quiet()) == tight.fit(quiet()) == "complete"
    assert calls == [4, 4] + [2] * (2 * (calm.plan.updates - 1)) and tight.shrunk
    assert "update 2 ran out of memory with batches of 4: going on with batches of 2" in caplog.text
    for one, other in zip(calm.adapter.parameters(), tight.adapter.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    tight._losses, tight.state.updates = short_of_memory, 0
    calls[:] = [0]
    tight.plan = tight.plan.split(4)
    with pytest.raises(torch.OutOfMemoryError):
        tight.fit(quiet())


def test_it_stops_where_the_validation_loss_stops_falling(workspace):
    folder, done = trained(
        workspace, "training.epochs=9", "training.learning_rate=1e-9", "monitoring.patience=2", "training.keep_states=2"
    )
    losses = [row["loss"] for row in done["validations"]]
    assert done["stopped"] == "plateau" and len(losses) < 9
    assert min(losses[:-2]) <= min(losses[-2:])
    assert done["checkpoints"][-1]["epoch"] == round(done["validations"][-1]["epoch"])
    assert len(list(folder.states.iterdir())) <= 3


def test_gradients_are_clipped(workspace):
    run = run_of(workspace, "training.max_grad_norm=0.001")
    norms, step = [], run.state.optimiser.step
    run.state.optimiser.step = lambda *_: (
        norms.append(torch.nn.utils.get_total_norm([one.grad for one in run.adapter.parameters()]).item()), step()
    )  # fmt: skip
    run.fit(quiet())
    assert len(norms) == run.plan.updates and max(norms) == pytest.approx(0.001, rel=1e-3)


def test_a_loss_that_is_not_finite_keeps_the_good_checkpoint_and_names_the_files(workspace):
    folder, done = trained(workspace, "training.epochs=2", "training.checkpoint_every=1")
    good = (folder.root / done["checkpoints"][0]["file"]).read_bytes()
    folder.training_done.unlink()
    with pytest.raises(TrainingError, match=r"not finite|loss is nan .*files: .*\.png"):
        trained(workspace, "name=mini2", "training.learning_rate=1", "training.epochs=30", "training.max_grad_norm=1e9")
    assert (folder.root / done["checkpoints"][0]["file"]).read_bytes() == good


def test_a_damaged_cache_is_named(workspace):
    trained(workspace)
    (cache,) = (
        path for path in workspace.cache.glob("latents-*/*") if path.suffix != ".json" and path.stat().st_size > 999
    )
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 0xFF
    cache.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged at view \d of .*delete the cache folder"):
        trained(workspace, "name=mini2", "training.epochs=4")


def test_the_manifest_tells_the_run_in_kohya_words(workspace):
    folder, done = trained(workspace, "training.epochs=2", "training.checkpoint_every=1", "objective.noise_offset=0.05")
    metadata = read_lora(folder.root / done["checkpoints"][0]["kohya"]).metadata
    assert (metadata["ss_epoch"], metadata["ss_num_epochs"], metadata["ss_noise_offset"]) == ("1", "2", "0.05")
    assert json.loads(metadata["ss_dataset_dirs"]) == {"3_targets": {"n_repeats": 3, "img_count": 5}}
    assert len(metadata["sshs_model_hash"]) == 64 and metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
