"""Typed settings in sections: read from YAML, changed by dotted keys, refused with the nearest valid key.

The experiment (`lora_core.experiment`) and the recipe of a base (`lora_core.pretraining.recipe`) are such settings.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lora_core.errors import ConfigError
from lora_core.files import write_text
from lora_core.secrets import masked_assignment, secret_in

NAME_LENGTH = 64
"""Characters that the name of an experiment or a base may have."""
NAME = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}$"
"""What such a name looks like: a folder is called by it."""


class Section(BaseModel):
    """A part of the settings: immutable, unknown keys rejected, defaults validated too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Settings = TypeVar("Settings", bound=Section)


def field(position: int, default: Any, description: str, **bounds: Any) -> Any:
    """A field with its place in the Prefect form, which is alphabetical otherwise."""
    return Field(default, description=description, json_schema_extra={"position": position}, **bounds)


def parse_settings(kind: type[Settings], values: dict[str, Any], source: str) -> Settings:
    """Validates plain data.

    Args:
        source: file or preset, named in the error.

    Raises:
        ConfigError: naming each wrong key, its value and the nearest valid key; or a password in a value.
    """
    if (key := secret_in(values)) is not None:
        raise ConfigError(
            f"{source}: {key} holds a password or a key; settings are stored beside every output and shown in reports, "
            "so put it into the environment of the worker instead"
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(kind, problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def read_settings(kind: type[Settings], path: Path) -> Settings:
    """Reads a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not hold valid settings.
    """
    name = kind.__name__.lower()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the {name} {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {article(name)} {name} is a mapping of sections, this is {type(values).__name__}")
    return parse_settings(kind, values, str(path))


def read_preset(kind: type[Settings], folder: Path, name: str) -> Settings:
    """One of the shipped files of a folder.

    Raises:
        ConfigError: no preset of that name.
    """
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"no preset '{name}'{nearest(name, known)}; there are {', '.join(known)}")
    return read_settings(kind, folder / f"{name}.yaml")


def save_settings(settings: Section, path: Path) -> None:
    """Writes everything, defaults included, as YAML."""
    write_text(path, to_yaml(settings))


def to_yaml(settings: Section) -> str:
    """The settings as YAML in the order of the form."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def override_settings(settings: Settings, assignments: list[str], source: str) -> Settings:
    """Applies `section.key=value` texts; values are read as YAML, so lists are `[0.1, 0.2]`.

    Raises:
        ConfigError: an assignment without '=', an unknown key, a value out of range.
    """
    values = settings.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {masked_assignment(assignment)}: write section.key=value")
        try:
            require_key(type(settings), key)
            assign(values, key, yaml.safe_load(text))
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"--set {masked_assignment(assignment)}: {' '.join(str(error).split())}") from error
    return parse_settings(type(settings), values, "--set " + " ".join(assignments) if assignments else source)


def replace_values(settings: Settings, changes: dict[str, Any], source: str) -> Settings:
    """The settings with dotted keys replaced, validated again. Raises as `parse_settings`."""
    values = settings.model_dump(mode="json")
    for key, value in changes.items():
        assign(values, key, value)
    return parse_settings(type(settings), values, source)


def known_keys(kind: type[Section]) -> list[str]:
    """Every dotted key that can be set."""
    keys = []
    for name, info in kind.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys


def require_key(kind: type[Section], key: str) -> None:
    """Raises ValueError for a key that does not exist, naming the nearest that does."""
    if key not in known_keys(kind):
        raise ValueError(f"unknown key '{key}'{nearest(key, known_keys(kind))}")


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in nested plain data."""
    *sections, last = key.split(".")
    for section in sections:
        values = values[section]
    values[last] = value


def article(noun: str) -> str:
    """'a' or 'an'."""
    return "an" if noun[0] in "aeiou" else "a"


def nearest(word: str, known: list[str]) -> str:
    """'; did you mean …?' where something is near, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5) or [
        key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]
    ]
    return f"; did you mean '{close[0]}'?" if close else ""


def _explain(kind: type[Section], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(key, known_keys(kind))}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    return (
        f"{key}: {message} (given: {given!r})"
        if key and not isinstance(given, dict)
        else f"{key or kind.__name__.lower()}: {message}"
    )
