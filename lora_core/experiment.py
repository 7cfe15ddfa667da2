"""The experiment: everything that decides a result, as one typed model that is printed, stored and digested.

Sections are nested two deep, every field has bounds and a description (they become the Prefect form), and a key that
does not exist is an error that names the nearest one that does. `load_experiment` reads YAML, `apply_overrides` takes
the command line's `--set section.key=value`.
"""

import difflib
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lora_core.errors import ConfigError
from lora_core.files import value_digest, write_text

PRESET_FOLDER = Path(__file__).with_name("presets")
PresetName = Literal["pocket", "restoration", "baseline"]
DegradationName = Literal["light", "medium", "heavy", "single", "pocket", "own"]
Optimizer = Literal["adamw", "adamw8bit"]
Scheduler = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]


def _field(position: int, default: Any, description: str, **bounds: Any) -> Any:
    """A field with its place in the Prefect form, which is alphabetical otherwise."""
    return Field(default, description=description, json_schema_extra={"position": position}, **bounds)


class Section(BaseModel):
    """A part of the experiment: immutable, unknown keys rejected, defaults validated too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class BaseModelSection(Section):
    """The base model that every round starts from."""

    model: str = _field(0, "pocket", "'pocket', a diffusers folder, a .safetensors file, or a Hugging Face hub id")
    revision: str | None = _field(1, None, "Revision of a hub id: branch, tag or commit")
    config: str | None = _field(
        2, None, "For a .safetensors file: folder or hub id with its configuration and tokenizer (default: SD 1.5's)"
    )
    precision: Literal["fp32", "bf16", "fp16"] = _field(3, "fp32", "Arithmetic of the frozen base; LoRA stays fp32")


class DataSection(Section):
    """Which part of the photographs is used, and how."""

    resolution: int = _field(0, 128, "Side of a training crop in pixels", ge=32, le=2048, multiple_of=8)
    views: int = _field(1, 8, "Cached views a photo: each has its own crop, flip and degradation", ge=1, le=256)
    flip: bool = _field(2, True, "Mirror half of the views; both halves of a pair alike")
    prompt: str = _field(3, "", "The instruction given with every picture, in training and in the sweep")
    test_size: int | None = _field(4, None, "Score the centre crop of this side; empty: whole photographs", ge=32)
    test_limit: int | None = _field(5, None, "Score at most so many test photographs, first by name", ge=1)


class DegradationSection(Section):
    """How the degraded twins are made."""

    preset: DegradationName = _field(0, "pocket", "Published recipe, or 'own' for twins that you bring yourself")
    seed: int = _field(1, 0, "Seed of every sampled parameter", ge=0)


class AdapterSection(Section):
    """The LoRA."""

    rank: int = _field(0, 32, "Rank of the update", ge=1, le=512)
    alpha: float = _field(1, 32.0, "Scale numerator: the update is multiplied by alpha / rank", gt=0)
    layers: Literal["attention", "attention-ff", "all"] = _field(
        2, "all", "Attention; attention and feed-forward; or convolutions as well (LoCon)"
    )
    text_encoder: bool = _field(3, False, "Train a LoRA on the text encoder too")


class ObjectiveSection(Section):
    """What the LoRA learns to predict (DESIGN section 4)."""

    kind: Literal["bridge", "direct", "denoise"] = _field(
        0,
        "direct",
        "bridge: consistent over many steps; direct: one step from any timestep; denoise: clean photos only",
    )
    timesteps: Literal["grid", "uniform"] = _field(
        1, "grid", "Train at the timesteps that the sweep visits, or uniformly below each start timestep"
    )
    snr_gamma: float | None = _field(2, 5.0, "Weight min(SNR, gamma) / SNR of the noise prediction error", gt=0)
    clean_fraction: float = _field(3, 0.05, "Share of pairs in which the degraded half is the clean one", ge=0, le=0.5)


class TrainingSection(Section):
    """The training run of one round."""

    epochs: int = _field(0, 20, "Passes over the photographs, each as often as its folder's number says", ge=1)
    checkpoint_every: int = _field(
        1, 5, "Epochs between checkpoints that the sweep scores; the last is always one", ge=1
    )
    learning_rate: float = _field(2, 1e-3, "Peak learning rate of the UNet's LoRA", gt=0, le=1)
    text_encoder_learning_rate: float = _field(3, 1e-6, "Peak learning rate of the text encoder's LoRA", gt=0, le=1)
    batch: int = _field(4, 8, "Views a step and process", ge=1, le=1024)
    accumulation: int = _field(5, 1, "Batches a weight update", ge=1, le=1024)
    optimizer: Optimizer = _field(6, "adamw", "AdamW, or bitsandbytes' 8-bit AdamW")
    weight_decay: float = _field(7, 0.01, "Decoupled weight decay", ge=0)
    scheduler: Scheduler = _field(8, "cosine", "Learning-rate schedule (diffusers)")
    warmup: float = _field(9, 0.05, "Share of the updates in which the rate rises", ge=0, lt=1)
    restarts: int = _field(10, 1, "Cycles of cosine_with_restarts", ge=1)
    max_grad_norm: float = _field(11, 1.0, "Gradient clipping norm", gt=0)
    gradient_checkpointing: bool = _field(12, False, "Less memory, about a third slower")
    state_every: int = _field(13, 2000, "Views between saved states, from which a killed run goes on", ge=1)
    processes: int = _field(14, 1, "Processes, one a GPU (accelerate)", ge=1)
    time_limit: float | None = _field(15, None, "Minutes after which the round stops at its last checkpoint", gt=0)


class SweepSection(Section):
    """The inference grid: every checkpoint and the bare base at every combination."""

    strengths: tuple[float, ...] = _field(0, (0.1, 0.2, 0.3), "Denoising strengths, each in (0, 1]", min_length=1)
    start_noises: tuple[float, ...] = _field(
        1,
        (0.0,),
        "Share of the start noise: 0 is faithful and deterministic, 1 is img2img as web UIs do it",
        min_length=1,
    )
    steps: tuple[int, ...] = _field(2, (1,), "Denoiser evaluations from the start timestep down", min_length=1)
    detail_returns: tuple[float, ...] = _field(
        3, (0.0, 1.0), "Share of what the autoencoder dropped from the input that is put back", min_length=1
    )
    sampler: Literal["ddim", "euler", "dpm++"] = _field(4, "ddim", "Scheduler of diffusers")
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None = _field(
        5, "trailing", "The sampler's timestep grid; empty: as the base's own scheduler says"
    )
    guidance_scale: float = _field(6, 1.0, "Classifier-free guidance; 1 is off, as a fidelity score wants", ge=1, le=30)
    batch: int = _field(7, 8, "Photographs denoised at once", ge=1, le=1024)

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

    perceptual: Literal["auto", "lpips", "gmsd"] = _field(
        0, "auto", "Perceptual metric; auto takes LPIPS where its weights are at hand, else GMSD"
    )
    lpips_weights: str | None = _field(1, None, "File with torchvision's AlexNet weights; empty: the torch hub cache")
    psnr_weight: float = _field(2, 1.0, "Weight of the gain in PSNR-Y (1 dB is one point)", ge=0)
    ssim_weight: float = _field(3, 1.0, "Weight of the gain in SSIM-Y (0.04 is one point)", ge=0)
    perceptual_weight: float = _field(4, 1.0, "Weight of the perceptual gain (10 % less distance is one point)", ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.psnr_weight + self.ssim_weight + self.perceptual_weight == 0:
            raise ValueError("all weights are 0: nothing would be better than anything")
        return self


class Dimension(Section):
    """One axis of the search: a number between two bounds, or one of a few words."""

    key: str = _field(0, ..., "Key of the experiment, for example training.learning_rate")
    low: float | None = _field(1, None, "Lower bound of a number")
    high: float | None = _field(2, None, "Upper bound of a number")
    log: bool = _field(3, False, "Search on a logarithmic scale")
    choices: tuple[str, ...] = _field(4, (), "The words to choose from, instead of bounds")

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

    rounds: int = _field(0, 8, "Rounds at most, each trained from the clean base", ge=1, le=1000)
    patience: int = _field(1, 3, "Stop after so many rounds without a better composite", ge=1)
    min_improvement: float = _field(2, 0.01, "Points of the composite that count as better", ge=0)
    time_limit: float | None = _field(3, None, "Minutes after which no new round is started", gt=0)
    dimensions: tuple[Dimension, ...] = _field(4, (), "What may change from round to round", max_length=12)


class Experiment(Section):
    """One experiment. Equal experiments on equal photographs and base give equal results."""

    name: str = _field(0, "pocket", "Folder name under output/", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = _field(1, 0, "Seed of every random draw", ge=0)
    base: BaseModelSection = _field(2, BaseModelSection(), "The base model")
    data: DataSection = _field(3, DataSection(), "The photographs")
    degradation: DegradationSection = _field(4, DegradationSection(), "The degraded twins")
    adapter: AdapterSection = _field(5, AdapterSection(), "The LoRA")
    objective: ObjectiveSection = _field(6, ObjectiveSection(), "The training target")
    training: TrainingSection = _field(7, TrainingSection(), "The training run")
    sweep: SweepSection = _field(8, SweepSection(), "The inference grid")
    scoring: ScoringSection = _field(9, ScoringSection(), "The scores")
    tuning: TuningSection = _field(10, TuningSection(), "The loop over rounds")

    @model_validator(mode="after")
    def _dimensions_name_keys(self) -> Self:
        for dimension in self.tuning.dimensions:
            _require_key(dimension.key)
            if dimension.key.startswith(("tuning.", "scoring.", "degradation.", "base.")):
                raise ValueError(f"tuning.dimensions: {dimension.key} would change what the rounds are compared by")
        return self

    def digest_of(self, *sections: str) -> str:
        """sha256 over the named sections (and the seed): a cache key for what depends on them alone."""
        values = self.model_dump(mode="json")
        return value_digest({"seed": self.seed, **{section: values[section] for section in sections}})


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Validates plain data.

    Args:
        source: file or preset, named in the error.

    Raises:
        ConfigError: naming each wrong key, its value and the nearest valid key.
    """
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_explain(problem) for problem in error.errors())) from error


def load_preset(name: str) -> Experiment:
    """One of the shipped experiments.

    Raises:
        ConfigError: no preset of that name.
    """
    known = sorted(file.stem for file in PRESET_FOLDER.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"no preset '{name}'{_nearest(name, known)}; there are {', '.join(known)}")
    return load_experiment(PRESET_FOLDER / f"{name}.yaml")


def load_experiment(path: Path) -> Experiment:
    """Reads an experiment file.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a valid experiment.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the experiment {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of sections, this is {type(values).__name__}")
    return parse_experiment(values, str(path))


def save_experiment(experiment: Experiment, path: Path) -> None:
    """Writes the whole experiment, defaults included, as YAML."""
    write_text(path, to_yaml(experiment))


def to_yaml(experiment: Experiment) -> str:
    """The experiment as YAML in the order of the form."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def apply_overrides(experiment: Experiment, assignments: list[str]) -> Experiment:
    """Applies `section.key=value` texts; values are read as YAML, so lists are `[0.1, 0.2]`.

    Raises:
        ConfigError: an assignment without '=', an unknown key, a value out of range.
    """
    values = experiment.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write section.key=value")
        try:
            _require_key(key)
            _assign(values, key, yaml.safe_load(text))
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"--set {assignment}: {' '.join(str(error).split())}") from error
    return parse_experiment(values, "--set " + " ".join(assignments) if assignments else experiment.name)


def with_values(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """The experiment with dotted keys replaced, validated again. Raises as `parse_experiment`."""
    values = experiment.model_dump(mode="json")
    for key, value in changes.items():
        _assign(values, key, value)
    return parse_experiment(values, f"experiment {experiment.name}")


def value_at(experiment: Experiment, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = experiment
    for part in key.split("."):
        value = getattr(value, part)
    return value


def known_keys() -> list[str]:
    """Every dotted key that can be set."""
    keys = []
    for name, field in Experiment.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys


def _require_key(key: str) -> None:
    if key not in known_keys():
        raise ValueError(f"unknown key '{key}'{_nearest(key, known_keys())}")


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values[section]
    values[last] = value


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5) or [
        key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]
    ]
    return f"; did you mean '{close[0]}'?" if close else ""


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(key, known_keys())}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    return (
        f"{key}: {message} (given: {given!r})"
        if key and not isinstance(given, dict)
        else f"{key or 'experiment'}: {message}"
    )
