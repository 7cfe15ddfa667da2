"""Setting up the two stages: open or build what is trained, and what it is trained on."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.files import read_json, value_digest
from lora_core.pretraining.assemble import open_base_to_continue
from lora_core.pretraining.autoencoder import build_autoencoder, open_autoencoder
from lora_core.pretraining.data.batches import ImageStream
from lora_core.pretraining.data.records import RecordSet
from lora_core.pretraining.latents import Cached, EncodedInStep, Encoder, LatentSource, cache_latents, use_cache
from lora_core.pretraining.recipe import Recipe
from lora_core.pretraining.text import build_text_encoder, build_tokenizer
from lora_core.pretraining.unet import Denoiser, build_unet
from lora_core.pretraining.work import BaseWork, data_digest

_CAPTIONS = 100_000


def open_streams(
    work: BaseWork, recipe: Recipe, on_reject: Callable[[Any, str], None]
) -> tuple[ImageStream, ImageStream]:
    """The training and the validation images."""
    train, validation = (
        ImageStream(RecordSet(work.data / "manifest", kind), recipe.data, recipe.seed, on_reject)
        for kind in ("train", "validation")
    )
    return train, validation


def autoencoder_folder(work: BaseWork, recipe: Recipe) -> Path | None:
    """Where the run's autoencoder is: named, the continued base's, or trained here (None where it is still to be)."""
    if recipe.autoencoder.model:
        return Path(recipe.autoencoder.model).expanduser()
    if recipe.resume:
        return Path(recipe.resume).expanduser()
    if not work.autoencoder.done.exists():
        return None
    last = read_json(work.autoencoder.done)["checkpoints"][-1]
    return work.autoencoder.checkpoints / str(last["folder"])


def captions_of(stream: ImageStream) -> Iterator[str]:
    """The captions that a tokenizer is made from: of all records, or of so many spread evenly."""
    count = len(stream.records)
    for number in range(0, count, -(-count // _CAPTIONS)):
        yield from stream.records[number].caption.split("\n")


def settle_autoencoder(work: BaseWork, recipe: Recipe, stream: ImageStream) -> Any:
    """The autoencoder to encode with; a principal encoder is known before its decoder is trained.

    Raises:
        BaseModelError: it does not open.
        DataError: it was not trained yet.
    """
    folder = autoencoder_folder(work, recipe)
    if folder is not None:
        return open_autoencoder(folder)
    if recipe.autoencoder.encoder == "principal":
        return build_autoencoder(recipe.autoencoder, recipe.seed, stream).requires_grad_(False).eval()
    raise DataError(f"{work.autoencoder.root} holds no trained autoencoder yet; the pretrain command makes it first")


def encoder_digest(autoencoder: Any) -> str:
    """sha256 over what decides the latents: the encoder's weights and the scaling factor."""
    parts = [part for part in ("encoder", "quant_conv") if getattr(autoencoder, part, None) is not None]
    weights = {
        f"{part}.{name}": hashlib.sha256(value.float().cpu().contiguous().numpy().tobytes()).hexdigest()
        for part in parts
        for name, value in getattr(autoencoder, part).state_dict().items()
    }
    return value_digest([weights, autoencoder.config.scaling_factor])


def open_unet_parts(work: BaseWork, recipe: Recipe, stream: ImageStream) -> tuple[Any, Denoiser, Any, str]:
    """The autoencoder, the denoiser, the tokenizer, the prediction type, fresh or of the base to continue from.

    Raises:
        BaseModelError: a base or autoencoder that does not open.
        ConfigError: parts that do not fit together.
        DataError: the autoencoder was not trained yet.
    """
    if recipe.resume:
        named = open_autoencoder(Path(recipe.autoencoder.model)) if recipe.autoencoder.model else None
        channels = int(named.config.latent_channels) if named else None
        own, denoiser, tokenizer, prediction = open_base_to_continue(recipe.resume, channels)
        return named or own, denoiser, tokenizer, prediction
    autoencoder = settle_autoencoder(work, recipe, stream)
    if recipe.unet.text_encoder:
        _, frozen, tokenizer, _ = open_base_to_continue(recipe.unet.text_encoder, None)
        text = frozen.text_encoder.requires_grad_(False)
    else:
        tokenizer = build_tokenizer(captions_of(stream), vocabulary=recipe.unet.vocabulary)
        text = build_text_encoder(
            tokenizer, width=recipe.unet.text_width, layers=recipe.unet.text_layers, seed=recipe.seed
        )
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    unet = build_unet(
        recipe.unet, recipe.seed, int(autoencoder.config.latent_channels), recipe.data.image_size // factor
    )
    return autoencoder, Denoiser(unet, text), tokenizer, recipe.unet.prediction


def latent_sources(
    work: BaseWork,
    recipe: Recipe,
    encoder: Encoder,
    streams: tuple[ImageStream, ImageStream],
    progress: Callable[[int], Any],
) -> tuple[LatentSource, LatentSource]:
    """Latents to train and to validate on; the former cached where the recipe says so and they fit."""
    train, validation = streams
    size = recipe.data.image_size
    held_out = EncodedInStep(encoder, validation, size)
    if not use_cache(recipe, len(train.records), encoder.channels, encoder.factor):
        return EncodedInStep(encoder, train, size), held_out
    digest = value_digest([data_digest(work), recipe.data.image_size, encoder_digest(encoder.autoencoder)])
    cache_latents(work.latents, encoder, train, recipe.data, digest, progress)
    return Cached(work.latents, encoder, train, recipe.data), held_out
