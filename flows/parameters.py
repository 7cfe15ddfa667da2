"""What the flows' shared parameters mean: a workspace, and the experiment that holds there."""

import json
import logging
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, apply_overrides, load_experiment, load_preset
from lora_core.workspace import Workspace

logger = logging.getLogger(__name__)


def settle(
    workspace: Path, experiment: Path | None = None, preset: str | None = None, overrides: Sequence[str] = ()
) -> tuple[Workspace, Experiment]:
    """The workspace, and its experiment after all that was said.

    Args:
        workspace: the folder.
        experiment: an experiment file instead of the workspace's own.
        preset: a shipped experiment instead of a file.
        overrides: `section.key=value` texts on top.

    Raises:
        ConfigError: no experiment, two of them, or one that is not valid.
    """
    if experiment and preset:
        raise ConfigError(f"--experiment {experiment} and --preset {preset} exclude each other; give one")
    place = Workspace(workspace)
    if not (experiment or preset or place.experiment.exists()):
        raise ConfigError(f"{place.experiment} does not exist; make a workspace with: photo-enhancer init {workspace}")
    chosen = load_preset(preset) if preset else load_experiment(experiment or place.experiment)
    return place, apply_overrides(chosen, list(overrides))


def settle_round(
    number: int,
    workspace: Path,
    experiment: Path | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Workspace, Experiment]:
    """As `settle`; a round that was begun is taken as it was run, unless an experiment is named."""
    place, chosen = settle(workspace, experiment, preset, overrides)
    begun = place.study(chosen.name).round(number).experiment
    if experiment or preset or not begun.exists():
        return place, chosen
    logger.info("Round %d as it was begun: %s", number, begun)
    return settle(workspace, begun, None, overrides)


def as_overrides(changes: dict[str, Any]) -> list[str]:
    """A proposal's changes as the texts that a form and the command line take."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def changes_in(experiment: Experiment, changes: Sequence[str]) -> dict[str, Any]:
    """What `as_overrides` was made from, in the types that the experiment gave the values."""
    keys = [change.partition("=")[0] for change in changes]
    values = experiment.model_dump(mode="json")
    return {key: reduce(lambda part, name: part[name], key.split("."), values) for key in keys}
