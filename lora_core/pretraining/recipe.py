"""The recipe of a base model: everything that decides its weights, as one typed file.

`photo-enhancer pretrain WORK --recipe FILE` reads it; the shipped ones are in `presets/`. Counts are in images seen or
in epochs, never in steps, so that the batch size changes no schedule.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from lora_core import settings
from lora_core.files import value_digest
from lora_core.settings import NAME, Section, field

PRESET_FOLDER = Path(__file__).with_name("presets")
RecipePreset = Literal["pocket", "pocket-restoration", "small", "continue"]


class DataSection(Section):
    """The photographs and their captions."""

    source: Literal["folder", "classes", "coco", "shards", "hub", "synthetic"] = field(
        0,
        "folder",
        "folder: images/ and captions.json, or a .txt beside each image; classes: the file name is the caption; coco: "
        "the official COCO 2017 folders; shards: WebDataset .tar files (img2dataset); hub: a Hugging Face data set; "
        "synthetic: drawn shapes",
    )
    path: str = field(1, "", "The folder (of shards: or one .tar); of a hub data set its folder or id")
    annotations: str | None = field(
        2, None, "coco: the captions_*.json; empty: annotations/captions_<folder name>.json beside the folder"
    )
    num_samples: int | None = field(3, None, "Use so many images; empty: all", ge=1)
    image_size: int = field(4, 256, "Side of the square that a training step sees, in pixels", ge=16, multiple_of=8)
    framing: Literal["resize", "crop"] = field(
        5, "resize", "resize: the short side becomes image_size, then a crop; crop: a window at full resolution"
    )
    flip: bool = field(6, True, "Mirror half of the images")
    train_split: float = field(7, 0.9, "Share of the images that is trained on; the rest validates", gt=0, le=1)
    reject_limit: float = field(
        8, 0.02, "Share of unusable records beyond which the run stops; each is named in rejects.jsonl", ge=0, le=1
    )
    missing_captions: Literal["reject", "empty"] = field(
        9, "reject", "An image without caption is a reject, or is trained with the empty caption (and counted)"
    )
    cache: Literal["auto", "latents", "none"] = field(
        10, "auto", "Latents of all images in one file on disk; auto: where framing is resize and they fit cache_limit"
    )
    cache_limit: float = field(11, 20.0, "GiB that cached latents may take", gt=0)
    terms: str = field(12, "not stated", "Where the images come from and on what terms, for the model card")


class AutoencoderSection(Section):
    """The autoencoder: taken from a base, or trained before the UNet (an AutoencoderTiny)."""

    model: str | None = field(0, None, "A diffusers autoencoder folder, or a base's folder; empty: trained here")
    latent_channels: int = field(1, 16, "Channels of the latents", ge=1, le=64)
    width: int = field(2, 48, "Channels of every convolution", ge=8, le=512)
    encoder: Literal["principal", "trained"] = field(
        3,
        "principal",
        "principal: the encoder is fixed to the principal components of 4x4 pixels, only the decoder is trained; "
        "trained: both are",
    )
    encoder_blocks: tuple[int, ...] = field(4, (0, 0, 0), "Residual blocks a resolution, finest first", min_length=2)
    decoder_blocks: tuple[int, ...] = field(5, (2, 2, 1), "Residual blocks a resolution, coarsest first", min_length=2)
    crop: int = field(6, 64, "Side of a training crop in pixels", ge=16, multiple_of=8)
    epochs: int = field(7, 20, "Passes over the training images", ge=1)
    batch: int = field(8, 8, "Crops a step and process", ge=1)
    learning_rate: float = field(9, 8e-3, "Peak rate (of Muon: of the orthogonal update)", gt=0)
    optimizer: Literal["adamw", "muon"] = field(10, "muon", "AdamW, or Muon on the inner convolutions")
    latent_noise: float = field(11, 0.01, "Standard deviation of the noise on the latents in training", ge=0)

    @model_validator(mode="after")
    def _same_levels(self) -> Self:
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError("encoder_blocks and decoder_blocks must have one number a resolution each")
        if self.encoder == "principal" and len(self.encoder_blocks) != 3:
            raise ValueError("encoder principal has three resolutions (4x4 pixels a latent cell)")
        if self.encoder == "principal" and (self.latent_channels > 48 or self.width < 48):
            raise ValueError("encoder principal needs width >= 48 and latent_channels <= 48")
        return self


class UNetSection(Section):
    """The UNet and its text encoder."""

    config: str | None = field(
        0, None, "JSON file of a UNet2DConditionModel configuration (any SD-shaped UNet) instead of the fields below"
    )
    channels: tuple[int, ...] = field(1, (64, 96, 128), "Width a resolution, finest first", min_length=1)
    layers: int = field(2, 1, "Residual blocks a resolution", ge=1)
    heads: int = field(3, 4, "Attention heads; attention is at the coarsest resolution", ge=1)
    text_encoder: str | None = field(
        4, None, "A base's folder whose text encoder and tokenizer are used, frozen; empty: a small one is trained"
    )
    text_width: int = field(5, 128, "Width of the trained text encoder", ge=16)
    text_layers: int = field(6, 2, "Layers of the trained text encoder", ge=1)
    vocabulary: int = field(7, 4096, "Tokens of the trained text encoder's tokenizer at most", ge=128)
    prediction: Literal["epsilon", "v_prediction"] = field(8, "epsilon", "What the UNet answers")
    low_noise_share: float = field(
        9, 0.5, "Share of the timesteps drawn below low_noise_below, where restoration starts", ge=0, le=1
    )
    low_noise_below: int = field(10, 300, "Timestep", ge=1, le=1000)
    caption_dropout: float = field(11, 0.1, "Share of captions replaced by the empty one", ge=0, le=1)
    restoration_share: float = field(
        12, 0.0, "Share of images that are degraded and to be restored at low noise, beside plain denoising", ge=0, le=1
    )
    restoration_recipe: Literal["light", "medium", "heavy", "single"] = field(
        13, "light", "How they are degraded; the wider, the more general what a LoRA on top starts from"
    )


class TrainingSection(Section):
    """The training of the UNet."""

    epochs: int | None = field(0, None, "Passes over the training images; empty: as advised for their number", ge=1)
    batch: int = field(1, 16, "Images a step and process", ge=1)
    accumulation: int = field(2, 1, "Batches a weight update", ge=1)
    learning_rate: float = field(3, 1e-3, "Peak learning rate", gt=0, le=1)
    optimizer: Literal["adamw", "muon"] = field(4, "adamw", "AdamW, or Muon on the inner matrices")
    schedule: Literal["constant", "cosine", "linear"] = field(
        5, "cosine", "Rate after the warm-up: constant, half a cosine to zero, or straight to zero over the last 40 %"
    )
    warmup: int = field(6, 2000, "Images until the full rate", ge=0)
    weight_decay: float = field(7, 1e-3, "Decoupled weight decay", ge=0)
    max_grad_norm: float = field(8, 1.0, "Gradient clipping norm", gt=0)
    ema: float | None = field(
        9, None, "Images after which the moving average of the weights forgets half; empty: none", gt=0
    )
    checkpoint_every: int = field(10, 10, "Epochs between checkpoints, each a base that opens; the last is one", ge=1)
    keep_gib: float = field(11, 50.0, "GiB that checkpoints may take; the best and the last are always kept", gt=0)
    samples_every: int = field(12, 50, "Epochs between test images", ge=1)
    validate_every: int = field(13, 1, "Epochs between validations", ge=1)
    patience: int = field(14, 20, "Stop after so many validations without improvement", ge=1)
    halve_after: int = field(15, 8, "Halve the rate after so many validations without improvement", ge=1)
    min_improvement: float = field(16, 0.001, "Relative fall of the validation loss that counts", ge=0, lt=1)
    state_every: int = field(17, 8000, "Images between saved states, from which a killed run goes on", ge=1)
    processes: int = field(18, 1, "Processes, one a GPU (accelerate)", ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = field(19, "fp32", "Arithmetic of the training step")
    workers: int = field(20, 1, "Threads that read images ahead of the step", ge=1, le=64)
    time_limit: float | None = field(21, None, "Minutes after which the run stops at a checkpoint", gt=0)


class EvaluationSection(Section):
    """What the base is judged by."""

    images: int = field(0, 64, "Validation images of the fixed grid", ge=1)
    timesteps: tuple[int, ...] = field(1, (25, 100, 200, 500, 900), "Timesteps of the fixed grid", min_length=1)
    prompts: tuple[str, ...] = field(2, ("a photo of a dog", "a photo of a mountain"), "Captions of the test images")
    steps: int = field(3, 25, "Denoiser steps of a test image", ge=1, le=1000)
    guidance_scale: float = field(4, 3.0, "Classifier-free guidance of a test image", ge=1, le=30)
    distance_images: int = field(5, 0, "Generated images for FID and KID; 0: not computed", ge=0)
    restoration_train: str | None = field(6, None, "Clean photographs to train a restoration LoRA on top; empty: none")
    restoration_test: str | None = field(7, None, "Clean photographs to score it on")
    restoration_settings: tuple[str, ...] = field(
        8, (), "Changes to the preset `pocket` for that round, each as section.key=value"
    )

    @model_validator(mode="after")
    def _timesteps_exist(self) -> Self:
        if any(not 0 <= timestep < 1000 for timestep in self.timesteps):
            raise ValueError("timesteps: each is in [0, 999]")
        if bool(self.restoration_train) != bool(self.restoration_test):
            raise ValueError("restoration_train and restoration_test belong together")
        return self


class Recipe(Section):
    """One base model. Equal recipes on equal photographs give equal weights (CPU, fp32)."""

    name: str = field(0, "base", "Folder name of the result", pattern=NAME)
    seed: int = field(1, 0, "Seed of every random draw", ge=0)
    resume: str | None = field(2, None, "A base's folder to continue from, UNet and text encoder; empty: from scratch")
    data: DataSection = field(3, DataSection(), "The photographs")
    autoencoder: AutoencoderSection = field(4, AutoencoderSection(), "The autoencoder")
    unet: UNetSection = field(5, UNetSection(), "The UNet and the text encoder")
    training: TrainingSection = field(6, TrainingSection(), "The training of the UNet")
    evaluation: EvaluationSection = field(7, EvaluationSection(), "The evaluation")

    def digest_of(self, *sections: str) -> str:
        """sha256 over the named sections and the seed."""
        values = self.model_dump(mode="json")
        return value_digest({"seed": self.seed, **{section: values[section] for section in sections}})


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe file. Raises ConfigError as `settings.read_settings`."""
    return settings.read_settings(Recipe, path)


def load_recipe_preset(name: str) -> Recipe:
    """One of the shipped recipes. Raises ConfigError where there is none of that name."""
    return settings.read_preset(Recipe, PRESET_FOLDER, name)


def change_recipe(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Applies `section.key=value` texts. Raises ConfigError as `settings.override_settings`."""
    return settings.override_settings(recipe, assignments, recipe.name)


def recipe_from(values: dict[str, Any], source: str) -> Recipe:
    """Validates plain data; `source` is named in errors."""
    return settings.parse_settings(Recipe, values, source)
