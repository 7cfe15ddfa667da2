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
from lora_core.pretraining.text import build_text_encoder, learn_tokenizer
from lora_core.pretraining.unet import LatentPool, TextConditionedUNet, UNetRecipe, build_unet, train_unet

NARROW = AutoencoderRecipe(latent_channels=8, images=92_000)
WIDE = AutoencoderRecipe(seed=1, latent_channels=16, images=36_000, learning_rate=5e-4, warmup=1_000)
UNET = UNetRecipe(images=36_000)


def train_unet_stage(work: Path, autoencoder: AutoencoderTiny, photos: PhotoPool, recipe: UNetRecipe) -> LatentPool:
    """Trains the UNet and text encoder on the photographs' latents; returns the latents.

    The trained parts are written to `work/pipeline` by `assemble.save_pipeline`.
    """
    autoencoder.requires_grad_(False)
    pool = LatentPool.encode(photos, autoencoder, factor=4)
    tokenizer = learn_tokenizer(sorted(set(pool.captions)), work / "tokenizer")
    text = build_text_encoder(tokenizer, width=recipe.text_width, layers=recipe.text_layers, seed=recipe.seed)
    model = TextConditionedUNet(build_unet(recipe, autoencoder.config.latent_channels), text, tokenizer)
    train_unet(recipe, model, pool, work / "unet")
    card = Path(__file__).with_name("pocket_card.md").read_text(encoding="utf-8")
    save_pipeline(autoencoder, model, pool.scaling_factor, card, work / "pipeline")
    return pool


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
