"""Puts trained parts together as a diffusers Stable Diffusion folder in half precision."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from lora_core.files import whole_folder, write_text
from lora_core.pretraining.unet import TextConditionedUNet, noise_schedule


def save_pipeline(
    autoencoder: AutoencoderTiny, model: TextConditionedUNet, scaling_factor: float, card: str, folder: Path
) -> None:
    """Writes the pipeline in fp16 with its model card, whole or not at all; the given models are left as they are."""
    autoencoder.register_to_config(scaling_factor=scaling_factor)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with whole_folder(folder) as temporary:
        pipeline.to(torch.float16).save_pretrained(temporary, safe_serialization=True)
        write_text(temporary / "README.md", card)
    pipeline.to(torch.float32)
