"""The recipe of the pocket base: a narrow autoencoder, widened, then a UNet on its latents.

    python -m lora_core.pretraining.pocket WORK DESTINATION PHOTOS...

trains for about three hours on two CPU cores, goes on from the states in WORK when it is started again, and writes the
pipeline folder DESTINATION.
"""

import logging
import sys
from pathlib import Path

from diffusers import AutoencoderTiny

from lora_core.pretraining.assemble import save_pipeline
from lora_core.pretraining.autoencoder import AutoencoderRecipe, train_autoencoder, widen_latents
from lora_core.pretraining.photos import PhotoPool
from lora_core.pretraining.text import build_text_encoder, build_tokenizer
from lora_core.pretraining.unet import LatentPool, TextConditionedUNet, UNetRecipe, build_unet, train_unet

NARROW = AutoencoderRecipe(latent_channels=8, images=92_000)
WIDE = AutoencoderRecipe(seed=1, latent_channels=16, images=36_000, learning_rate=5e-4, warmup=1_000)
UNET = UNetRecipe(images=36_000)


def train_unet_stage(work: Path, autoencoder: AutoencoderTiny, photos: PhotoPool, recipe: UNetRecipe) -> None:
    """Trains UNet and text encoder on the photographs' latents and writes the pipeline to `work/pipeline`."""
    autoencoder.requires_grad_(False)
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    pool = LatentPool.encode(photos, autoencoder, factor)
    tokenizer = build_tokenizer(list(pool.captions))
    text = build_text_encoder(tokenizer, width=recipe.text_width, layers=recipe.text_layers, seed=recipe.seed)
    model = TextConditionedUNet(build_unet(recipe, autoencoder.config.latent_channels), text, tokenizer)
    train_unet(recipe, model, pool, work / "unet")
    save_pipeline(autoencoder, model, pool.scaling_factor, card(recipe, len(photos.names)), work / "pipeline")


def card(recipe: UNetRecipe, photographs: int) -> str:
    """The model card: the recipes as they were run, and on how many photographs."""
    stages = {"narrow autoencoder": NARROW, "widened autoencoder": WIDE, "UNet and text encoder": recipe}
    recipes = "\n".join(f"- {name}: `{stage.model_dump_json()}`" for name, stage in stages.items())
    return f"# Pocket base\n\nTrained by `lora_core.pretraining.pocket` on {photographs} photographs.\n\n{recipes}\n"


def main() -> None:
    """Command line of the recipe."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    work, destination, *folders = map(Path, sys.argv[1:])
    photos = PhotoPool.read(folders, at_least=NARROW.crop)
    narrow = train_autoencoder(NARROW, photos, work / "narrow")
    wide = train_autoencoder(WIDE, photos, work / "wide", initial=widen_latents(narrow, WIDE))
    train_unet_stage(work, wide, photos, UNET)
    (work / "pipeline").replace(destination)


if __name__ == "__main__":
    main()
