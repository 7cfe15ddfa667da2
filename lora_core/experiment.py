"""The experiment: everything that decides a result, as one typed model that is printed, stored and digested.

Sections are nested two deep, every field has bounds and a description (they become the Prefect form), and a key that
does not exist is an error that names the nearest one that does. `load_experiment` reads YAML, `apply_overrides` takes
the command line's `--set section.key=value`.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from lora_core import settings
from lora_core.files import value_digest
from lora_core.settings import Section, field, require_key

PRESET_FOLDER = Path(__file__).with_name("presets")
PresetName = Literal["pocket", "restoration", "baseline"]
DegradationName = Literal["light", "medium", "heavy", "single", "pocket", "own"]
Optimizer = Literal["adamw", "adamw8bit"]
Scheduler = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]


class BaseModelSection(Section):
    """The base model that every round starts from."""

    model: str = field(0, "pocket", "'pocket', a diffusers folder, a .safetensors file, or a Hugging Face hub id")
    revision: str | None = field(1, None, "Revision of a hub id: branch, tag or commit")
    config: str | None = field(
        2, None, "For a .safetensors file: folder or hub id with its configuration and tokenizer (default: SD 1.5's)"
    )
    precision: Literal["fp32", "bf16", "fp16"] = field(3, "fp32", "Arithmetic of the frozen base; LoRA stays fp32")


class DataSection(Section):
    """Which part of the photographs is used, and how."""

    resolution: int = field(0, 128, "Side of a training crop in pixels", ge=32, le=2048, multiple_of=8)
    views: int = field(1, 8, "Cached views a photo: each has its own crop, flip and degradation", ge=1, le=256)
    flip: bool = field(2, True, "Mirror half of the views; both halves of a pair alike")
    prompt: str = field(3, "", "The instruction given with every picture, in training and in the sweep")
    test_size: int | None = field(4, None, "Score the centre crop of this side; empty: whole photographs", ge=32)
    test_limit: int | None = field(5, None, "Score at most so many test photographs, first by name", ge=1)


class DegradationSection(Section):
    """How the degraded twins are made."""

    preset: DegradationName = field(0, "pocket", "Published recipe, or 'own' for twins that you bring yourself")
    seed: int = field(1, 0, "Seed of every sampled parameter", ge=0)


class AdapterSection(Section):
    """The LoRA."""

    rank: int = field(0, 32, "Rank of the update", ge=1, le=512)
    alpha: float = field(1, 32.0, "Scale numerator: the update is multiplied by alpha / rank", gt=0)
    layers: Literal["attention", "attention-ff", "all"] = field(
        2, "all", "Attention; attention and feed-forward; or convolutions as well (LoCon)"
    )
    text_encoder: bool = field(3, False, "Train a LoRA on the text encoder too")


class ObjectiveSection(Section):
    """What the LoRA learns to predict (DESIGN section 4)."""

    kind: Literal["bridge", "direct", "denoise"] = field(
        0,
        "direct",
        "bridge: consistent over many steps; direct: one step from any timestep; denoise: clean photos only",
    )
    timesteps: Literal["grid", "uniform"] = field(
        1, "grid", "Train at the timesteps that the sweep visits, or uniformly below each start timestep"
    )
    snr_gamma: float | None = field(2, 5.0, "Weight min(SNR, gamma) / SNR of the noise prediction error", gt=0)
    clean_fraction: float = field(3, 0.05, "Share of pairs in which the degraded half is the clean one", ge=0, le=0.5)


class TrainingSection(Section):
    """The training run of one round."""

    epochs: int = field(0, 20, "Passes over the photographs, each as often as its folder's number says", ge=1)
    checkpoint_every: int = field(
        1, 5, "Epochs between checkpoints that the sweep scores; the last is always one", ge=1
    )
    learning_rate: float = field(2, 1e-3, "Peak learning rate of the UNet's LoRA", gt=0, le=1)
    text_encoder_learning_rate: float = field(3, 1e-6, "Peak learning rate of the text encoder's LoRA", gt=0, le=1)
    batch: int = field(4, 8, "Views a step and process", ge=1, le=1024)
    accumulation: int = field(5, 1, "Batches a weight update", ge=1, le=1024)
    optimizer: Optimizer = field(6, "adamw", "AdamW, or bitsandbytes' 8-bit AdamW")
    weight_decay: float = field(7, 0.01, "Decoupled weight decay", ge=0)
    scheduler: Scheduler = field(8, "cosine", "Learning-rate schedule (diffusers)")
    warmup: float = field(9, 0.05, "Share of the updates in which the rate rises", ge=0, lt=1)
    restarts: int = field(10, 1, "Cycles of cosine_with_restarts", ge=1)
    max_grad_norm: float = field(11, 1.0, "Gradient clipping norm", gt=0)
    gradient_checkpointing: bool = field(12, False, "Less memory, about a third slower")
    state_every: int = field(13, 2000, "Views between saved states, from which a killed run goes on", ge=1)
    processes: int = field(14, 1, "Processes, one a GPU (accelerate)", ge=1)
    time_limit: float | None = field(15, None, "Minutes after which the round stops at its last checkpoint", gt=0)


class SweepSection(Section):
    """The inference grid: every checkpoint and the bare base at every combination."""

    strengths: tuple[float, ...] = field(0, (0.1, 0.2, 0.3), "Denoising strengths, each in (0, 1]", min_length=1)
    start_noises: tuple[float, ...] = field(
        1,
        (0.0,),
        "Share of the start noise: 0 is faithful and deterministic, 1 is img2img as web UIs do it",
        min_length=1,
    )
    steps: tuple[int, ...] = field(2, (1,), "Denoiser evaluations from the start timestep down", min_length=1)
    detail_returns: tuple[float, ...] = field(
        3, (0.0, 1.0), "Share of what the autoencoder dropped from the input that is put back", min_length=1
    )
    sampler: Literal["ddim", "euler", "dpm++"] = field(4, "ddim", "Scheduler of diffusers")
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None = field(
        5, "trailing", "The sampler's timestep grid; empty: as the base's own scheduler says"
    )
    guidance_scale: float = field(6, 1.0, "Classifier-free guidance; 1 is off, as a fidelity score wants", ge=1, le=30)
    batch: int = field(7, 8, "Photographs denoised at once", ge=1, le=1024)

    @model_validator(mode="after")
    def _values_in_range(self) -> Self:
        for name, values, low, high, open_low in (
            ("strengths", self.strengths, 0, 1, True),
            ("start_noises", self.start_noises, 0, 1, False),
            ("steps", self.steps, 1, 1000, False),
            ("detail_returns", self.detail_returns, 0, 1, False),
        ):
            for value in values:
                if value > high or value < low or (open_low and value == low):
                    raise ValueError(f"{name}: {value} is outside {'(' if open_low else '['}{low}, {high}]")
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is given twice")
        return self


class ScoringSection(Section):
    """What 'better' means."""

    perceptual: Literal["auto", "lpips", "gmsd"] = field(
        0, "auto", "Perceptual metric; auto takes LPIPS where its weights are at hand, else GMSD"
    )
    lpips_weights: str | None = field(1, None, "File with torchvision's AlexNet weights; empty: the torch hub cache")
    psnr_weight: float = field(2, 1.0, "Weight of the gain in PSNR-Y (1 dB is one point)", ge=0)
    ssim_weight: float = field(3, 1.0, "Weight of the gain in SSIM-Y (0.04 is one point)", ge=0)
    perceptual_weight: float = field(4, 1.0, "Weight of the perceptual gain (10 % less distance is one point)", ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.psnr_weight + self.ssim_weight + self.perceptual_weight == 0:
            raise ValueError("all weights are 0: nothing would be better than anything")
        return self


class Dimension(Section):
    """One axis of the search: a number between two bounds, or one of a few words."""

    key: str = field(0, ..., "Key of the experiment, for example training.learning_rate")
    low: float | None = field(1, None, "Lower bound of a number")
    high: float | None = field(2, None, "Upper bound of a number")
    log: bool = field(3, False, "Search on a logarithmic scale")
    choices: tuple[str, ...] = field(4, (), "The words to choose from, instead of bounds")

    @model_validator(mode="after")
    def _bounds_or_choices(self) -> Self:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError(f"{self.key}: give either low and high, or choices")
        if not self.choices and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"{self.key}: low must be below high")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"{self.key}: a logarithmic scale needs low above 0")
        return self


class TuningSection(Section):
    """The loop over rounds."""

    rounds: int = field(0, 8, "Rounds at most, each trained from the clean base", ge=1, le=1000)
    patience: int = field(1, 3, "Stop after so many rounds without a better composite", ge=1)
    min_improvement: float = field(2, 0.01, "Points of the composite that count as better", ge=0)
    time_limit: float | None = field(3, None, "Minutes after which no new round is started", gt=0)
    dimensions: tuple[Dimension, ...] = field(4, (), "What may change from round to round", max_length=12)


class Experiment(Section):
    """One experiment. Equal experiments on equal photographs and base give equal results."""

    name: str = field(0, "pocket", "Folder name under output/", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = field(1, 0, "Seed of every random draw", ge=0)
    base: BaseModelSection = field(2, BaseModelSection(), "The base model")
    data: DataSection = field(3, DataSection(), "The photographs")
    degradation: DegradationSection = field(4, DegradationSection(), "The degraded twins")
    adapter: AdapterSection = field(5, AdapterSection(), "The LoRA")
    objective: ObjectiveSection = field(6, ObjectiveSection(), "The training target")
    training: TrainingSection = field(7, TrainingSection(), "The training run")
    sweep: SweepSection = field(8, SweepSection(), "The inference grid")
    scoring: ScoringSection = field(9, ScoringSection(), "The scores")
    tuning: TuningSection = field(10, TuningSection(), "The loop over rounds")

    @model_validator(mode="after")
    def _dimensions_name_keys(self) -> Self:
        for dimension in self.tuning.dimensions:
            require_key(Experiment, dimension.key)
            if dimension.key.startswith(("tuning.", "scoring.", "degradation.", "base.")):
                raise ValueError(f"tuning.dimensions: {dimension.key} would change what the rounds are compared by")
        return self

    def digest_of(self, *sections: str) -> str:
        """sha256 over the named sections (and the seed): a cache key for what depends on them alone."""
        values = self.model_dump(mode="json")
        return value_digest({"seed": self.seed, **{section: values[section] for section in sections}})


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Validates plain data; `source` is named in errors. Raises ConfigError as `settings.parse_settings`."""
    return settings.parse_settings(Experiment, values, source)


def load_preset(name: str) -> Experiment:
    """One of the shipped experiments. Raises ConfigError where there is none of that name."""
    return settings.read_preset(Experiment, PRESET_FOLDER, name)


def load_experiment(path: Path) -> Experiment:
    """Reads an experiment file. Raises ConfigError as `settings.read_settings`."""
    return settings.read_settings(Experiment, path)


def save_experiment(experiment: Experiment, path: Path) -> None:
    """Writes the whole experiment, defaults included, as YAML."""
    settings.save_settings(experiment, path)


def apply_overrides(experiment: Experiment, assignments: list[str]) -> Experiment:
    """Applies `section.key=value` texts. Raises ConfigError as `settings.override_settings`."""
    return settings.override_settings(experiment, assignments, experiment.name)


def with_values(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """The experiment with dotted keys replaced, validated again."""
    return settings.replace_values(experiment, changes, f"experiment {experiment.name}")


def value_at(experiment: Experiment, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = experiment
    for part in key.split("."):
        value = getattr(value, part)
    return value
