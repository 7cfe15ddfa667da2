"""What a finished base is worth: reconstruction, loss by timestep, and the distance of its pictures to photographs.

The gain of a restoration LoRA trained on top, the number that matters here, is the main job's own round; the flow runs
it and `note_restoration` puts it beside these.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionPipeline

from lora_core.bases.base import Base, to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.experiment import BaseModelSection
from lora_core.files import read_json, write_json, write_text
from lora_core.metrics import psnr_rgb
from lora_core.pretraining.assemble import pipeline_of, save_pipeline
from lora_core.pretraining.autoencoder import CROP
from lora_core.pretraining.card import base_card
from lora_core.pretraining.data.batches import ImageStream, centre_crops
from lora_core.pretraining.distances import Unavailable, frechet_distance, kernel_distance, load_extractor
from lora_core.pretraining.recipe import Recipe
from lora_core.pretraining.samples import draw_pictures
from lora_core.pretraining.stages import open_streams, settle_autoencoder
from lora_core.pretraining.unet import Denoiser
from lora_core.pretraining.work import BaseWork
from lora_core.training.log import read_log

log = logging.getLogger(__name__)
_PICTURES_AT_ONCE = 8


def finish_base(work: BaseWork, recipe: Recipe) -> None:
    """Puts the best checkpoint and the autoencoder together in `base/`, evaluates it and writes its model card."""
    train, validation = open_streams(work, recipe, lambda *_: None)
    done = read_json(work.unet.done)
    best = min(done["checkpoints"], key=lambda row: row["loss"])
    checkpoint = open_pipeline(BaseModelSection(model=str(work.unet.checkpoints / best["folder"])))
    denoiser = Denoiser(checkpoint.unet, checkpoint.text_encoder)
    autoencoder = settle_autoencoder(work, recipe, train)
    pipeline = pipeline_of(autoencoder, denoiser, checkpoint.tokenizer, recipe.unet.prediction)
    trained = {"epochs": best["epoch"], "images": best["images"]}
    save_pipeline(pipeline, work.base, "", trained)
    row = next(row for row in read_log(work.unet.validations) if row["images"] == best["images"])
    values = {
        "epoch": best["epoch"],
        "psnr_rgb": reconstruction(open_base(BaseModelSection(model=str(work.base))), validation, recipe),
        "psnr_rgb_crop": CROP,
        "loss_by_timestep": row["by_timestep"],
        "mean_predictor": done["references"]["mean_predictor"],
        **distances(pipeline, recipe, validation),
        "restoration": None,
    }
    write_json(work.evaluation, values)
    write_card(work, recipe)


def write_card(work: BaseWork, recipe: Recipe) -> None:
    """Writes the base's model card from what the stages left."""
    trained_here = work.autoencoder.done.exists()
    text = base_card(
        recipe,
        read_json(work.data / "survey.json"),
        read_json(work.autoencoder.done) if trained_here else None,
        read_json(work.unet.done),
        read_json(work.evaluation),
    )
    write_text(work.base / "README.md", text)


def note_restoration(work: BaseWork, recipe: Recipe, result: dict[str, Any], report: Path) -> None:
    """Adds what a restoration LoRA on the base gained; `result` is a round's `result.json`."""
    winner = result["winner"]
    gains = {key: winner[key] for key in ("photos", "gain_psnr_y", "gain_ssim_y", "gain_perceptual", "composite")}
    values = read_json(work.evaluation)
    write_json(work.evaluation, values | {"restoration": gains | {"report": str(report)}})
    write_card(work, recipe)


def reconstruction(base: Base, validation: ImageStream, recipe: Recipe) -> float:
    """Mean PSNR-RGB in dB of 8-bit reconstructions of the validation images' centre crops."""
    crops = centre_crops(validation, recipe.evaluation.images, CROP)
    decoded = [to_rgb(base.decode(base.encode(to_pixels(crop[None]))))[0] for crop in crops]
    return float(np.mean([psnr_rgb(crop, own) for crop, own in zip(crops, decoded, strict=True)]))


def distances(pipeline: StableDiffusionPipeline, recipe: Recipe, validation: ImageStream) -> dict[str, Any]:
    """FID and KID of drawn pictures to validation images, or the reason why there are none."""
    count = recipe.evaluation.distance_images
    if not count:
        return {"fid": None, "kid": None, "distances_note": "not asked for (evaluation.distance_images)"}
    extractor = load_extractor()
    if isinstance(extractor, Unavailable):
        return {"fid": None, "kid": None, "distances_note": f"not available: {extractor.reason}; {extractor.remedy}"}
    drawn: list[np.ndarray] = []
    for first in range(0, count, _PICTURES_AT_ONCE):
        places = range(first, min(first + _PICTURES_AT_ONCE, count))
        drawn += list(draw_pictures(pipeline, recipe, validation.captions(places), "distance", first))
    real = extractor(validation.whole(number, recipe.data.image_size) for number in range(len(validation.records)))
    own = extractor(drawn)
    return {
        "fid": frechet_distance(real, own),
        "kid": kernel_distance(real, own).mean,
        "distances_note": f"{count} pictures against {len(real)} photographs, {extractor.name}",
    }
