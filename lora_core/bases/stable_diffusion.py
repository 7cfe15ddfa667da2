"""Stable Diffusion 1.x and 2.x, and every folder of that shape (the pocket base): opening the files.

A single `.safetensors` in the original layout holds no tokenizer and no configuration; they come from `base.config`,
which is SD 1.5's repository unless the experiment names a folder of its own.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from lora_core.bases.attention import widen_heads
from lora_core.bases.base import Base
from lora_core.bases.files import DEFAULT_CONFIG, check_base, fetch_from_hub, stored_keys, weight_files
from lora_core.bases.quantise import quantise
from lora_core.errors import BaseModelError
from lora_core.experiment import BaseModelSection
from lora_core.objectives import NoiseSchedule

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CONFIG_FILES = ["model_index.json", "*/*.json", "*/*.txt"]


def default_device() -> torch.device:
    """The first CUDA device, Apple's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def open_pipeline(section: BaseModelSection) -> StableDiffusionPipeline:
    """The base as a diffusers pipeline, on the CPU, in float32 or the section's precision.

    Raises:
        BaseModelError: the files are no base, or do not load.
    """
    path = check_base(section)
    options: dict[str, Any] = {
        "torch_dtype": _DTYPES[section.precision],
        "local_files_only": True,
        "safety_checker": None,
    }
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = _load(path, section, options)
    except BaseModelError:
        raise
    except Exception as error:  # diffusers raises many kinds for one cause: files that do not fit together
        reason = " ".join(str(error).split())[:300]
        raise BaseModelError(f"base.model: {path} does not load as Stable Diffusion: {reason}") from error
    _refuse_gaps(pipeline, path)
    return pipeline


def open_base(section: BaseModelSection, device: torch.device | None = None) -> Base:
    """Opens the base frozen and in evaluation mode. Raises as `open_pipeline`."""
    device = device or default_device()
    pipeline = open_pipeline(section)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    schedule = NoiseSchedule(
        pipeline.scheduler.alphas_cumprod.float().to(device), pipeline.scheduler.config.prediction_type
    )
    if schedule.prediction_type not in ("epsilon", "v_prediction"):
        raise BaseModelError(f"base.model: prediction type {schedule.prediction_type} is not supported")
    if pipeline.unet.config.in_channels != pipeline.unet.config.out_channels:
        raise BaseModelError(
            f"base.model: a UNet with {pipeline.unet.config.in_channels} input channels is for inpainting or editing"
        )
    if section.quantise != "none":
        quantise(pipeline.unet, section.quantise, _DTYPES[section.precision])
    if device.type == "cpu":
        widen_heads(pipeline.unet)
    return Base(
        vae=pipeline.vae.to(device, torch.float32),
        unet=pipeline.unet.to(device, memory_format=torch.channels_last),
        text_encoder=pipeline.text_encoder.to(device),
        tokenizer=pipeline.tokenizer,
        scheduler_config=dict(pipeline.scheduler.config),
        schedule=schedule,
        factor=factor,
        multiple=factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1),
        device=device,
        dtype=_DTYPES[section.precision],
    )


def _load(path: Path, section: BaseModelSection, options: dict[str, Any]) -> StableDiffusionPipeline:
    if path.is_file():
        return StableDiffusionPipeline.from_single_file(str(path), config=str(_config(section)), **options)
    options |= {"feature_extractor": None, "requires_safety_checker": False}
    options |= {"use_safetensors": None if section.allow_pickle else True}  # None: .safetensors first
    return StableDiffusionPipeline.from_pretrained(path, variant=None if _plain_weights(path) else "fp16", **options)


def _refuse_gaps(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Files that lack a tensor load all the same: as a shapeless stand-in, in the text encoder as random values."""
    for part in ("unet", "vae", "text_encoder"):
        names = {name: weight for name, weight in getattr(pipeline, part).named_parameters()}
        missing = [name for name, weight in names.items() if weight.is_meta]
        if part == "text_encoder" and path.is_dir():
            files = weight_files(path / part)
            stored = {key.removeprefix("text_model.") for file in files for key in stored_keys(file)}
            missing += [name for name in names if name.removeprefix("text_model.") not in stored]
        if missing:
            raise BaseModelError(
                f"base.model: {path} lacks {len(missing)} weights, {part}.{missing[0]} first; download it again"
            )


def _config(section: BaseModelSection) -> Path:
    if section.config is None:
        return fetch_from_hub(DEFAULT_CONFIG, None, _CONFIG_FILES)
    folder = Path(section.config).expanduser()
    return folder if folder.is_dir() else fetch_from_hub(section.config, section.revision, _CONFIG_FILES)


def _plain_weights(path: Path) -> bool:
    return any(".fp16." not in file.name for file in weight_files(path / "unet"))
