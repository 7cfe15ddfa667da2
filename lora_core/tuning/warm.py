"""Rounds of earlier studies that a search learns from: `tuning.warm_start`."""

from dataclasses import dataclass
from pathlib import Path

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment
from lora_core.tuning.journal import open_journal, scoring_digest
from lora_core.tuning.space import Space, active_params
from lora_core.workspace import Workspace


@dataclass(frozen=True)
class Earlier:
    """What an earlier study brings.

    Attributes:
        trials: its rounds within the bounds of the search, scored or pruned.
        remark: how many of its rounds are used, and which are not.
    """

    trials: list[FrozenTrial]
    remark: str


def earlier_rounds(workspace: Workspace, experiment: Experiment, space: Space, metric: str) -> list[Earlier]:
    """Reads the studies that `tuning.warm_start` names.

    Args:
        metric: the perceptual metric of this study.

    Raises:
        ConfigError: one is not there, is this study itself, searches other dimensions, or is scored otherwise.
        DataError: its journal is damaged.
    """
    names = experiment.tuning.warm_start
    return [_read(_journal_of(workspace, experiment, name), name, experiment, space, metric) for name in names]


def _journal_of(workspace: Workspace, experiment: Experiment, name: str) -> Path:
    given = Path(name).expanduser()
    path = given if given.name.endswith(".log") or len(given.parts) > 1 else workspace.study(name).study_log
    path = path / "study.log" if path.is_dir() else path
    if path.absolute() == workspace.study(experiment.name).study_log.absolute():
        raise ConfigError(f"tuning.warm_start: {name} is this study itself; its rounds are known, leave it out")
    if not path.is_file():
        raise ConfigError(f"tuning.warm_start: {name}: {path} does not exist; name an experiment or its study.log")
    return path


def _read(path: Path, name: str, experiment: Experiment, space: Space, metric: str) -> Earlier:
    _, study = open_journal(path)
    trials = [trial for trial in study.trials if trial.state.is_finished()] if study else []
    if study is None or not trials:
        raise ConfigError(f"tuning.warm_start: {name}: {path} holds no finished round; leave it out")
    if study.user_attrs.get("scoring") != scoring_digest(experiment):
        raise ConfigError(
            f"tuning.warm_start: {name} was scored with another scoring section, so its composites say nothing here; "
            "set scoring as it was there, or leave it out"
        )
    for trial in trials:
        if (other := trial.user_attrs.get("perceptual", metric)) != metric:
            raise ConfigError(
                f"tuning.warm_start: {name} was scored with {other}, this study with {metric}; leave it out"
            )
        _require_space(name, trial, experiment, space)
    inside = [trial for trial in trials if _within(trial, space)]
    outside = [str(trial.user_attrs["round"]) for trial in trials if not _within(trial, space)]
    said = f"learnt from {len(inside)} rounds of {name}"
    return Earlier(inside, f"{said}, not from {', '.join(outside)}, outside tuning.dimensions" if outside else said)


def _require_space(name: str, trial: FrozenTrial, experiment: Experiment, space: Space) -> None:
    """The same dimensions of the same kinds; one whose condition does not hold may be lacking."""
    if strangers := sorted(trial.params.keys() - space.keys()):
        raise ConfigError(
            f"tuning.warm_start: {name} searched {strangers[0]}, which tuning.dimensions does not name; "
            "add it, or leave the study out"
        )
    known = dict.fromkeys(space, "") | trial.params
    for key in active_params(experiment, known):
        axis, before = space[key], trial.distributions.get(key)
        if before is not None and type(before) is not type(axis):
            raise ConfigError(f"tuning.warm_start: {name} searched {key} in another kind of values; leave it out")
        if before is None:
            raise ConfigError(f"tuning.warm_start: {name} did not search {key}; leave the study or the dimension out")


def _within(trial: FrozenTrial, space: Space) -> bool:
    for key, value in trial.params.items():
        axis = space[key]
        if not (value in axis.choices if isinstance(axis, CategoricalDistribution) else axis.low <= value <= axis.high):
            return False
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
