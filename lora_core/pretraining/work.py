"""The folder of a base training, and what a run in it depends on. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_core.bases import base_digest
from lora_core.errors import ConfigError
from lora_core.experiment import BaseModelSection
from lora_core.files import read_json, value_digest
from lora_core.pretraining.recipe import Recipe, load_recipe

# What changes how long or with what help a run goes, but not what its weights are at an update.
_NOT_DECIDING = ("keep_gib", "state_every", "time_limit", "workers", "samples_every")


@dataclass(frozen=True)
class StageFolder:
    """Where one stage, autoencoder or UNet, keeps its state, logs and results."""

    root: Path

    @property
    def state(self) -> Path:
        """The last saved state."""
        return self.root / "state"

    @property
    def log(self) -> Path:
        """Losses, a JSON line every few updates."""
        return self.root / "log.jsonl"

    @property
    def validations(self) -> Path:
        """A JSON line a validation."""
        return self.root / "validation.jsonl"

    @property
    def samples(self) -> Path:
        """Test images by epoch."""
        return self.root / "samples"

    @property
    def checkpoints(self) -> Path:
        """A folder a checkpoint, each opens with diffusers."""
        return self.root / "checkpoints"

    @property
    def index(self) -> Path:
        """The checkpoints that are kept."""
        return self.root / "checkpoints.json"

    @property
    def done(self) -> Path:
        """The manifest of the finished stage, written last."""
        return self.root / "done.json"


@dataclass(frozen=True)
class BaseWork:
    """The folder of one base training."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe as it is run."""
        return self.root / "recipe.yaml"

    @property
    def data(self) -> Path:
        """The manifest of the images, and what was rejected."""
        return self.root / "data"

    @property
    def latents(self) -> Path:
        """Cached latents."""
        return self.root / "latents"

    @property
    def autoencoder(self) -> StageFolder:
        """The autoencoder's stage; its last checkpoint is what it ends with."""
        return StageFolder(self.root / "autoencoder")

    @property
    def unet(self) -> StageFolder:
        """The UNet's stage."""
        return StageFolder(self.root / "unet")

    @property
    def backup(self) -> Path:
        """Copies of the bases that runs continued from."""
        return self.root / "backup"

    @property
    def base(self) -> Path:
        """The finished base: a diffusers Stable Diffusion folder with a model card."""
        return self.root / "base"

    @property
    def evaluation(self) -> Path:
        """The scores of the finished base."""
        return self.root / "evaluation.json"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.root / "report.html"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's files."""
        return self.root / "log"


def data_digest(work: BaseWork) -> str:
    """The digest of the surveyed images. Raises DataError where there was no survey."""
    return str(read_json(work.data / "survey.json")["digest"])


def autoencoder_digest(recipe: Recipe, data: str) -> str:
    """sha256 over everything that decides the autoencoder's weights."""
    values = recipe.model_dump(mode="json")
    training = _deciding(values["training"])
    for key in ("epochs", "batch", "accumulation", "learning_rate", "optimizer", "schedule", "weight_decay", "ema"):
        del training[key]  # the autoencoder has its own
    return value_digest([recipe.seed, values["autoencoder"], values["data"]["flip"], training, data])


def unet_digest(recipe: Recipe, data: str, encoder: str) -> str:
    """sha256 over everything that decides the UNet's weights; of the autoencoder that is the encoder alone."""
    values = recipe.model_dump(mode="json")
    shown = {key: values["evaluation"][key] for key in ("images", "timesteps")}
    resumed = base_digest(BaseModelSection(model=recipe.resume)) if recipe.resume else None
    framing = {key: values["data"][key] for key in ("image_size", "framing", "flip", "cache")}
    return value_digest(
        [recipe.seed, values["unet"], _deciding(values["training"]), framing, shown, data, encoder, resumed]
    )


def finished(folder: StageFolder, digest: str, time_limit: float | None) -> bool:
    """Whether the stage is done, whole; one that ended at a shorter time limit than this (in minutes) is not.

    Raises:
        ConfigError: the folder holds another run.
    """
    if not folder.done.exists():
        return False
    done = read_json(folder.done)
    if done["digest"] != digest:
        raise ConfigError(
            f"{folder.root} holds a training of another recipe or data set; take a new folder, or move it away"
        )
    return done["stopped"] != "time limit" or (time_limit is not None and done["seconds"] >= 60 * time_limit)


def require_same_recipe(work: BaseWork, recipe: Recipe) -> None:
    """Refuses a recipe that would train something else in a folder that was begun; nothing is written before.

    Raises:
        ConfigError: naming the keys that differ and the way out.
    """
    if not work.recipe.exists() or not (work.unet.root.exists() or work.autoencoder.root.exists()):
        return
    before, now = (_flat(one) for one in (open_recipe(work), recipe))
    changed = [f"{key} {before[key]} -> {value}" for key, value in now.items() if before[key] != value]
    if changed:
        raise ConfigError(
            f"{work.root} was begun with another recipe ({', '.join(changed)}); take a new folder, "
            f"with --resume {work.base} to go on from what this one ends with"
        )


def _flat(recipe: Recipe) -> dict[str, Any]:
    """The values that decide the weights, by dotted key; where the images are does not, what they are is digested."""
    values = recipe.model_dump(mode="json")
    values["training"] = _deciding(values["training"])
    values["evaluation"] = {key: values["evaluation"][key] for key in ("images", "timesteps")}
    values["data"] = {
        key: value
        for key, value in values["data"].items()
        if key not in ("path", "annotations", "terms", "cache_limit")
    }
    sections = ("data", "autoencoder", "unet", "training", "evaluation")
    flat = {f"{section}.{key}": value for section in sections for key, value in values[section].items()}
    return flat | {"seed": recipe.seed, "resume": recipe.resume}


def trained_before(recipe: Recipe) -> dict[str, Any]:
    """{"epochs", "images"} that the base to continue from had been trained for; zeros where it does not say."""
    note = Path(recipe.resume).expanduser() / "training.json" if recipe.resume else None
    return read_json(note) if note and note.exists() else {"epochs": 0, "images": 0}


def open_recipe(work: BaseWork) -> Recipe:
    """The recipe as it is run."""
    return load_recipe(work.recipe)


def _deciding(training: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key not in _NOT_DECIDING}
