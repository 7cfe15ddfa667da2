"""The model card of a trained base: data and terms, recipe, seeds, time, hardware, scores."""

import os
import platform
from typing import Any

from lora_core.markdown import code, escaped, fenced
from lora_core.pretraining.estimate import duration
from lora_core.pretraining.recipe import Recipe
from lora_core.settings import to_yaml


def draft_card(recipe: Recipe, trained: dict[str, Any]) -> str:
    """The card of a checkpoint that is not evaluated yet; `trained` is {"epochs", "images"}."""
    return (
        f"# {recipe.name}, epoch {trained['epochs']}\n\nA checkpoint after {trained['images']:,} images; "
        f"it opens with diffusers' `StableDiffusionPipeline`. Data: {escaped(recipe.data.terms)}.\n"
    )


def base_card(
    recipe: Recipe,
    survey: dict[str, Any],
    autoencoder: dict[str, Any] | None,
    unet: dict[str, Any],
    evaluation: dict[str, Any],
) -> str:
    """The card as Markdown.

    Args:
        survey: `data/survey.json`.
        autoencoder: `autoencoder/done.json`, or None where it was not trained here.
        unet: `unet/done.json`.
        evaluation: `evaluation.json`.
    """
    parts = [
        f"# {recipe.name}",
        f"A latent diffusion model of Stable Diffusion's shape, {unet['parameters'] / 1e6:.1f} million parameters "
        "beside the autoencoder, trained by `photo-enhancer pretrain`. It opens with diffusers' "
        "`StableDiffusionPipeline` and `StableDiffusionImg2ImgPipeline`.",
        f"## Data\n\n{survey['train']:,} images to train on, {survey['validation']:,} to validate, "
        f"{survey['rejected']:,} rejected. {escaped(recipe.data.terms)}.",
        f"## Training\n\n{_training(recipe, autoencoder, unet)}",
        f"## Scores\n\n{_scores(evaluation)}",
        "## Recipe\n\nThis file, given to `photo-enhancer pretrain`, makes it again:\n\n"
        + fenced(to_yaml(recipe), "yaml"),
        "## Limits\n\nIt denoises and restores small photographs; it is no substitute for a large base model, and what "
        "it draws from a caption alone are textures and colours rather than objects.",
    ]
    return "\n\n".join(parts) + "\n"


def _training(recipe: Recipe, autoencoder: dict[str, Any] | None, unet: dict[str, Any]) -> str:
    lines = []
    if autoencoder:
        lines.append(
            f"- Autoencoder: {autoencoder['images']:,} crops in {duration(autoencoder['seconds'])}, "
            f"{autoencoder['validation']['psnr_rgb']:.1f} dB PSNR-RGB on held-out crops."
        )
    if recipe.resume:
        lines.append(f"- UNet and text encoder were continued from {code(recipe.resume)}.")
    lines.append(
        f"- UNet and text encoder: {unet['images']:,} images ({unet['epochs']:.0f} epochs) in "
        f"{duration(unet['seconds'])}; ended: {unet['stopped']}."
    )
    lines.append(f"- Seed {recipe.seed}; {recipe.training.precision}; {hardware()}.")
    return "\n".join(lines)


def _scores(evaluation: dict[str, Any]) -> str:
    lines = [
        f"- Reconstruction by the autoencoder: {evaluation['psnr_rgb']:.2f} dB PSNR-RGB on held-out 128x128 crops."
    ]
    by_timestep, mean = evaluation["loss_by_timestep"], evaluation["mean_predictor"]
    lines.append(
        "- Validation loss by timestep, as a share of what answering the mean would cost: "
        + ", ".join(f"t={place}: {loss / mean[place]:.1%}" for place, loss in by_timestep.items())
        + "."
    )
    if evaluation.get("fid") is not None:
        lines.append(f"- FID {evaluation['fid']:.1f}, KID {evaluation['kid']:.4f} ({evaluation['distances_note']}).")
    elif evaluation.get("distances_note"):
        lines.append(f"- FID and KID: {evaluation['distances_note']}.")
    if gain := evaluation.get("restoration"):
        lines.append(
            f"- A restoration LoRA trained on it gains {gain['gain_psnr_y']:+.2f} dB PSNR-Y and "
            f"{gain['gain_ssim_y']:+.4f} SSIM-Y over the degraded input on {gain['photos']} photographs."
        )
    return "\n".join(lines)


def hardware() -> str:
    """The processor, or the GPU, in words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"
