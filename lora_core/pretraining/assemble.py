"""Puts trained parts together as a diffusers Stable Diffusion folder in half precision, and opens one to go on from."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from lora_core.bases.stable_diffusion import open_pipeline
from lora_core.errors import ConfigError
from lora_core.experiment import BaseModelSection
from lora_core.files import read_json, whole_folder, write_json, write_text
from lora_core.pretraining.unet import Denoiser, noise_scheduler


def pipeline_of(autoencoder: Any, denoiser: Denoiser, tokenizer: Any, prediction: str) -> StableDiffusionPipeline:
    """The parts as a pipeline; they are not copied."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=noise_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path, card: str, trained: dict[str, Any]) -> None:
    """Writes the pipeline in fp16 with its model card, whole or not at all; the pipeline is left as it is.

    Args:
        trained: {"epochs", "images"}, from which a continued training counts on.
    """
    parts = {name: getattr(pipeline, name) for name in ("vae", "text_encoder", "unet")}
    with whole_folder(folder) as temporary:
        for name, part in parts.items():
            deepcopy(part).to("cpu", torch.float16).save_pretrained(temporary / name, safe_serialization=True)
            _forget_origin(temporary / name / "config.json")
        for name in ("tokenizer", "scheduler"):
            getattr(pipeline, name).save_pretrained(temporary / name)
        pipeline.save_config(temporary)
        write_json(temporary / "training.json", trained)
        write_text(temporary / "README.md", card)


def _forget_origin(config: Path) -> None:
    """Takes out where the part was opened from: a path of this machine is nobody else's business."""
    values = read_json(config)
    values.pop("_name_or_path", None)
    write_json(config, values)


def open_base_to_continue(folder: str, latent_channels: int | None) -> tuple[Any, Denoiser, Any, str]:
    """The autoencoder, the denoiser, the tokenizer and the prediction type of a base, float32.

    Args:
        latent_channels: of the autoencoder that is used instead of the base's own, or None.

    Raises:
        BaseModelError: there is no such base.
        ConfigError: its UNet does not fit the autoencoder's latents.
    """
    pipeline = open_pipeline(BaseModelSection(model=folder))
    channels = pipeline.unet.config.in_channels
    if latent_channels is not None and channels != latent_channels:
        raise ConfigError(
            f"resume: the UNet of {folder} takes latents of {channels} channels, the autoencoder makes "
            f"{latent_channels}; leave autoencoder.model empty to take the base's own"
        )
    denoiser = Denoiser(pipeline.unet, pipeline.text_encoder)
    return pipeline.vae, denoiser, pipeline.tokenizer, str(pipeline.scheduler.config.prediction_type)
