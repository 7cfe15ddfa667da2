"""The experiment: everything that decides a result, as one typed model that is printed, stored and digested.

Sections are nested two deep, every field has bounds and a description (they become the Prefect form), and a key that
does not exist is an error that names the nearest one that does. `load_experiment` reads YAML, `apply_overrides` takes
the command line's `--set section.key=value`.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from lora_core import settings
from lora_core.files import value_digest
from lora_core.sections.adapter import AdapterSection
from lora_core.sections.base import BaseModelSection
from lora_core.sections.data import DataSection
from lora_core.sections.degradation import DegradationName, DegradationSection
from lora_core.sections.execution import ExecutionSection
from lora_core.sections.monitoring import MonitoringSection
from lora_core.sections.objective import ObjectiveSection
from lora_core.sections.scoring import ScoringSection
from lora_core.sections.sweep import SweepSection
from lora_core.sections.training import TrainingSection
from lora_core.sections.tuning import Dimension, TuningSection
from lora_core.settings import NAME, Section, field, require_key
from lora_core.workspace import CHAMPIONS

__all__ = [
    "NOT_COMPARED", "AdapterSection", "BaseModelSection", "DataSection", "DegradationName", "DegradationSection",
    "Dimension", "ExecutionSection", "Experiment", "MonitoringSection", "ObjectiveSection", "PresetName",
    "ScoringSection", "SweepSection", "TrainingSection", "TuningSection", "apply_overrides", "load_experiment",
    "load_preset", "parse_experiment", "save_experiment", "value_at", "with_values",
]  # fmt: skip

PRESET_FOLDER = Path(__file__).with_name("presets")
PresetName = Literal["pocket", "restoration", "baseline"]

NOT_COMPARED = (
    "tuning.", "scoring.", "degradation.", "base.", "monitoring.", "execution.", "data.test_limit", "data.test_size",
)  # fmt: skip
"""Beginnings of keys that say what the rounds are compared by; no round may change them."""

_NEEDS_TRUE_GRADIENTS = ("prodigy", "schedule-free-adamw")


class Experiment(Section):
    """One experiment. Equal experiments on equal photographs and base give equal results."""

    name: str = field(0, "pocket", "Folder name under output/", pattern=NAME)
    seed: int = field(1, 0, "Seed of every random draw", ge=0)
    base: BaseModelSection = field(2, BaseModelSection(), "The base model")
    data: DataSection = field(3, DataSection(), "The photographs")
    degradation: DegradationSection = field(4, DegradationSection(), "The degraded twins")
    adapter: AdapterSection = field(5, AdapterSection(), "The LoRA")
    objective: ObjectiveSection = field(6, ObjectiveSection(), "The training target")
    training: TrainingSection = field(7, TrainingSection(), "The training run")
    monitoring: MonitoringSection = field(8, MonitoringSection(), "What is watched meanwhile")
    sweep: SweepSection = field(9, SweepSection(), "The inference grid")
    scoring: ScoringSection = field(10, ScoringSection(), "The scores")
    tuning: TuningSection = field(11, TuningSection(), "The loop over rounds")
    execution: ExecutionSection = field(12, ExecutionSection(), "Where the work is done")

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name.lower() == CHAMPIONS:
            raise ValueError(f"output/{CHAMPIONS}/ is the champion's own folder; choose another name")
        return name

    @model_validator(mode="after")
    def _dimensions_name_keys(self) -> Self:
        for dimension in self.tuning.dimensions:
            require_key(Experiment, dimension.key)
            if dimension.key.startswith(NOT_COMPARED):
                raise ValueError(f"tuning.dimensions: {dimension.key} would change what the rounds are compared by")
        return self

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.objective.control and self.adapter.formats != "diffusers":
            raise ValueError(
                "objective.control: a kohya file cannot hold the widened conv_in; set adapter.formats=diffusers"
            )
        if self.training.sharding == "fsdp" and (
            self.monitoring.samples or self.monitoring.prompts or self.adapter.text_encoder
        ):
            raise ValueError(
                "training.sharding: with fsdp no process holds a whole base, so pictures on the way and a trained text "
                "encoder are not to be had; set monitoring.samples=0, monitoring.prompts=[], adapter.text_encoder=false"
            )
        if self.base.precision == "fp16" and self.training.optimizer in _NEEDS_TRUE_GRADIENTS:
            raise ValueError(
                f"training.optimizer: {self.training.optimizer} measures gradients over time, and fp16's loss scaling "
                "leaves steps out; set base.precision=bf16 or fp32, or use adamw"
            )
        return self

    def digest_of(self, *sections: str) -> str:
        """sha256 over the named sections (and the seed): a cache key for what depends on them alone."""
        values = self.model_dump(mode="json", exclude={"base": {"allow_pickle"}})  # says how files are read
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
