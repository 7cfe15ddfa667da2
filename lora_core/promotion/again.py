"""Another try with other settings: the same study where they only prolong it, else a study of its own."""

import re
from collections.abc import Sequence
from itertools import count

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, apply_overrides
from lora_core.lineage import deciding_values
from lora_core.workspace import Workspace

_ORDINAL = re.compile(r"-again-(\d+)$")
_LONGEST = 64  # characters of an experiment's name


def settings_of_next_try(workspace: Workspace, experiment: Experiment, overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides with which another try is run: those asked for, and a name where it is another study.

    More rounds or another end of the loop prolong the study. All else changes what its rounds are, and a study's rounds
    must be comparable, so it becomes `<name>-again-2`, or the next number that is free.

    Args:
        workspace: the workspace.
        experiment: of the study that was not good enough.
        overrides: the change, each as section.key=value.

    Raises:
        ConfigError: nothing is changed, or not to something valid.
    """
    if not overrides:
        raise ConfigError("say what to change, e.g. training.epochs=30, or tuning.rounds=12 for more rounds")
    changed = apply_overrides(experiment, list(overrides))
    if changed == experiment:
        raise ConfigError(f"{', '.join(overrides)}: so it is already; say what to change, e.g. training.epochs=30")
    if changed.name != experiment.name or _same_rounds(changed, experiment):
        return tuple(overrides)
    return (*overrides, f"name={_free_name(workspace, experiment.name)}")


def _same_rounds(one: Experiment, other: Experiment) -> bool:
    """Whether the rounds of both belong into one study."""
    searched = one.tuning.dimensions == other.tuning.dimensions
    return searched and one.base == other.base and deciding_values(one) == deciding_values(other)


def _free_name(workspace: Workspace, name: str) -> str:
    found = _ORDINAL.search(name)
    stem, first = (name[: found.start()], int(found[1]) + 1) if found else (name, 2)
    endings = (f"-again-{number}" for number in count(first))
    names = (stem[: _LONGEST - len(ending)] + ending for ending in endings)
    return next(free for free in names if not workspace.study(free).root.exists())
