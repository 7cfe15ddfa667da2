"""The process of one stage: `python -m lora_core.pretraining.worker WORK autoencoder|unet|finish ERROR_FILE`."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lora_core.bases.stable_diffusion import default_device
from lora_core.errors import ConfigError
from lora_core.files import write_json
from lora_core.pretraining.assemble import pipeline_of, save_pipeline
from lora_core.pretraining.autoencoder import AutoencoderStage, save_autoencoder
from lora_core.pretraining.card import draft_card
from lora_core.pretraining.course import Course, autoencoder_course, unet_course
from lora_core.pretraining.data.records import Record
from lora_core.pretraining.epochs import advised_epochs
from lora_core.pretraining.estimate import Estimate, Sizes, check_disk, estimate, words
from lora_core.pretraining.evaluation import finish_base
from lora_core.pretraining.latents import Encoder, cache_bytes, use_cache
from lora_core.pretraining.loop import Hooks, Loop, Stage
from lora_core.pretraining.optimiser import make_optimisers
from lora_core.pretraining.recipe import Recipe
from lora_core.pretraining.recorder import Recorder
from lora_core.pretraining.samples import show_reconstructions, show_samples
from lora_core.pretraining.stages import encoder_digest, latent_sources, open_streams, open_unet_parts
from lora_core.pretraining.state import State
from lora_core.pretraining.unet import Denoiser, UNetStage
from lora_core.pretraining.work import (
    BaseWork,
    StageFolder,
    autoencoder_digest,
    data_digest,
    finished,
    open_recipe,
    trained_before,
    unet_digest,
)
from lora_core.process import child_main, only_one
from lora_core.progress import progress_bar
from lora_core.training.monitor import Monitor
from lora_core.training.trackers import Trackers

log = logging.getLogger(__name__)
_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def train_autoencoder(work: BaseWork, recipe: Recipe) -> None:
    """Trains the autoencoder, from its last saved state where there is one, to its manifest."""
    digest = autoencoder_digest(recipe, data_digest(work))
    if finished(work.autoencoder, digest, recipe.training.time_limit):
        return
    accelerator = start(recipe)
    streams = open_streams(work, recipe, reject_into(work))
    stage = AutoencoderStage.of(recipe, *streams, accelerator.device)
    course = autoencoder_course(recipe, len(streams[0].records))
    autoencoder = stage.module.autoencoder
    run = Training(work.autoencoder, course, stage, digest, accelerator)
    result = run.fit(
        save_checkpoint=lambda place, _: save_autoencoder(autoencoder, place),
        save_samples=lambda path: show_reconstructions(autoencoder, stage.held_out, path),
        estimated=lambda seconds: log.info(
            "autoencoder: %s updates of %.2f s, about %.0f min", course.updates, seconds, course.updates * seconds / 60
        ),
        tensorboard=work.tensorboard / "autoencoder",
    )
    if accelerator.is_main_process:
        write_json(work.autoencoder.done, result | {"validation": run.state.validations[-1]})


def train_unet(work: BaseWork, recipe: Recipe) -> None:
    """Trains UNet and text encoder, from the last saved state where there is one, to the manifest."""
    accelerator = start(recipe)
    streams = open_streams(work, recipe, reject_into(work))
    autoencoder, denoiser, tokenizer, prediction = open_unet_parts(work, recipe, streams[0])
    if prediction != recipe.unet.prediction:
        raise ConfigError(f"unet.prediction is {recipe.unet.prediction}, {recipe.resume} predicts {prediction}")
    digest = unet_digest(recipe, data_digest(work), encoder_digest(autoencoder))
    if finished(work.unet, digest, recipe.training.time_limit):
        return
    encoder, photos = Encoder(autoencoder, accelerator.device), len(streams[0].records)
    with accelerator.main_process_first(), progress_bar("latents", "image", photos) as bar:
        sources = latent_sources(work, recipe, encoder, streams, lambda done: bar.update(done - bar.n))
    stage = UNetStage.of(recipe, denoiser, tokenizer, *sources)
    course = settle_course(recipe, photos)
    references = {"mean_predictor": stage.mean_predictor(), "base": stage.validate() if recipe.resume else None}
    run = Training(work.unet, course, stage, digest, accelerator)
    sizes, ahead = sizes_of(recipe, course, encoder, denoiser), {"epochs": course.epochs - course.first // photos}
    plan = recipe.model_copy(update={"training": recipe.training.model_copy(update=ahead)})

    def reckon(seconds: float) -> Estimate:
        return estimate(plan, photos, seconds, sizes)

    if warning := check_disk(reckon(0), work.root):
        log.warning(warning)
    pipeline = pipeline_of(autoencoder, denoiser, tokenizer, prediction)
    result = run.fit(
        save_checkpoint=lambda place, trained: save_pipeline(pipeline, place, draft_card(recipe, trained), trained),
        save_samples=lambda path: show_samples(pipeline, recipe, path),
        estimated=lambda seconds: log.info("estimate: %s", words(reckon(seconds))),
        tensorboard=work.tensorboard / "unet",
    )
    if accelerator.is_main_process:
        parameters = sum(weight.numel() for weight in denoiser.parameters())
        write_json(work.unet.done, result | {"references": references, "parameters": parameters})


def settle_course(recipe: Recipe, photos: int) -> Course:
    """The epochs that the recipe says, or that are advised, counted on from a continued base's.

    Raises:
        ConfigError: the continued base has been trained for as many already.
    """
    advice, before = advised_epochs(photos), trained_before(recipe)
    epochs = recipe.training.epochs or before["epochs"] + advice.recommended
    if recipe.training.epochs is None:
        log.info("training.epochs: %s", advice.words)
    if epochs <= before["epochs"]:
        raise ConfigError(
            f"training.epochs is {epochs}, and {recipe.resume} was trained for {before['epochs']} already; set more"
        )
    return unet_course(recipe, photos, epochs, before["epochs"] * photos)


def sizes_of(recipe: Recipe, course: Course, encoder: Encoder, denoiser: Denoiser) -> Sizes:
    """What the parts weigh, for the estimate."""
    weights = list(denoiser.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    frozen = sum(weight.numel() for weight in (*weights, *encoder.autoencoder.parameters())) - trained
    cached = use_cache(recipe, course.photos, encoder.channels, encoder.factor)
    return Sizes(trained, frozen, cache_bytes(recipe.data, 1, encoder.channels, encoder.factor) if cached else 0)


class Training:
    """One stage from set-up to result, on one process."""

    def __init__(self, folder: StageFolder, course: Course, stage: Stage, digest: str, accelerator: Accelerator):
        training, module = course.training, stage.module
        optimisers = make_optimisers(module, training.optimizer, training.learning_rate, training.weight_decay)
        self.folder, self.course, self.digest, self.accelerator = folder, course, digest, accelerator
        self.stage = stage
        self.state = State(digest, module, optimisers, scaler=accelerator.scaler)
        if training.ema:
            self.state.start_average()
        if (folder.state / "state.json").exists():
            self.state.restore(folder.state)
        stage.module = accelerator.prepare(module)
        self.state.optimisers = [accelerator.prepare(optimiser) for optimiser in optimisers]

    def fit(
        self,
        *,
        save_checkpoint: Callable[[Path, dict[str, Any]], object],
        save_samples: Callable[[Path], object],
        estimated: Callable[[float], object],
        tensorboard: Path,
    ) -> dict[str, Any]:
        """Trains to the end and returns the stage's manifest."""
        loop = Loop(self.stage, self.course, self.state, self.accelerator)
        monitor = self._monitor(tensorboard) if self.accelerator.is_main_process else None
        if monitor is None:
            return {"stopped": loop.fit(Hooks(*[lambda *_: None] * 5))}
        recorder = Recorder(self.folder, self.course, self.state, monitor, save_checkpoint, save_samples, estimated)
        try:
            stopped = loop.fit(recorder.hooks())
        finally:
            monitor.close()
        return {"digest": self.digest} | recorder.result(stopped)

    def _monitor(self, tensorboard: Path) -> Monitor:
        course = self.course

        def describe(update: int) -> list[str]:
            micros = range((update - 1) * course.training.accumulation, update * course.training.accumulation)
            batches = [(micro, process) for micro in micros for process in range(course.training.processes)]
            return [name for place in batches for name in self.stage.names(course.positions(*place))]

        step = course.first + self.state.updates * course.images_per_update
        return Monitor(
            self.folder.log,
            Trackers(("tensorboard",), tensorboard, self.folder.log.parent, {}, step),
            images_per_update=course.images_per_update,
            images_per_epoch=course.photos,
            updates=course.updates,
            done=self.state.updates,
            describe=describe,
            first=course.first,
        )


def start(recipe: Recipe) -> Accelerator:
    """The accelerator of this process.

    Raises:
        ConfigError: other than `training.processes` processes were started.
    """
    cpu = default_device().type == "cpu"
    accelerator = Accelerator(mixed_precision=_MIXED[recipe.training.precision], cpu=cpu)
    if accelerator.num_processes != recipe.training.processes:
        raise ConfigError(
            f"training.processes is {recipe.training.processes}, {accelerator.num_processes} were started"
        )
    return accelerator


def reject_into(work: BaseWork) -> Callable[[Record, str], None]:
    """Notes an image that became unreadable in the list of rejects, once."""

    def note(record: Record, reason: str) -> None:
        log.warning("%s: %s; another image takes its place", record.name, reason)
        with (work.data / "rejects.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": record.name, "reason": reason}, ensure_ascii=False) + "\n")

    return note


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    root, stage = arguments
    work = BaseWork(Path(root))
    recipe = open_recipe(work)
    verb = {"autoencoder": train_autoencoder, "unet": train_unet, "finish": finish_base}[stage]
    lock = only_one(work.root / stage) if os.environ.get("RANK", "0") == "0" else None
    try:
        verb(work, recipe)
    finally:
        if lock:
            lock.release()


if __name__ == "__main__":
    child_main(main)
