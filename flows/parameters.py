"""What the flows' shared parameters mean: a workspace, and the experiment that holds there."""

import json
import logging
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

from pydantic import WithJsonSchema

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, apply_overrides, load_experiment, load_preset
from lora_core.storage import local_folder, open_place
from lora_core.workspace import Workspace
from tasks.root import require_inside

Place = Annotated[Path | str, WithJsonSchema({"type": "string", "format": "path"})]
"""A folder, or s3://bucket/path; a `Path` would take away one of the two slashes."""

logger = logging.getLogger(__name__)


def settle(
    workspace: Place,
    experiment: Path | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    only_reads: bool = False,
) -> tuple[Workspace, Experiment]:
    """The workspace, and its experiment after all that was said.

    Args:
        workspace: the folder, or its place in a bucket, of which this machine then has a mirror.
        experiment: an experiment file instead of the workspace's own.
        preset: a shipped experiment instead of a file.
        overrides: `section.key=value` texts on top.
        only_reads: while another machine writes a place in a bucket, it can be read, but not be written.

    Raises:
        ConfigError: no experiment, two of them, or one that is not valid; or a place that this worker does not serve.
        ResourceError: the bucket cannot be reached, or another machine is writing there.
    """
    if experiment:
        require_inside(experiment, "experiment")
    if experiment and preset:
        raise ConfigError(f"--experiment {experiment} and --preset {preset} exclude each other; give one")
    place = enter(workspace, only_reads)
    if not (experiment or preset or place.experiment.exists()):
        raise ConfigError(f"{place.experiment} does not exist; make a workspace with: photo-enhancer init {workspace}")
    chosen = load_preset(preset) if preset else load_experiment(experiment or place.experiment)
    return place, apply_overrides(chosen, list(overrides))


def settle_round(
    number: int,
    workspace: Place,
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
    return place, apply_overrides(load_experiment(begun), list(overrides))


def enter(workspace: Place, only_reads: bool = False) -> Workspace:
    """The workspace of a folder or of a place in a bucket. Raises as `settle`."""
    if (folder := local_folder(workspace)) is not None:
        require_inside(folder)
    return Workspace(open_place(workspace, hold=not only_reads))


def as_overrides(changes: dict[str, Any]) -> list[str]:
    """A proposal's changes as the texts that a form and the command line take."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def changes_in(experiment: Experiment, changes: Sequence[str]) -> dict[str, Any]:
    """What `as_overrides` was made from, in the types that the experiment gave the values."""
    keys = [change.partition("=")[0] for change in changes]
    values = experiment.model_dump(mode="json")
    return {key: reduce(lambda part, name: part[name], key.split("."), values) for key in keys}
