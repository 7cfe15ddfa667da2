"""The proposer: an Optuna study in ask/tell form on a journal file, one trial a round.

A proposal is a function of the journal, the seed and the round: the sampler is built anew for each ask, and asked in a
study in memory, so that the trial enters the journal as one record with its values, its changes and its reason. A
process that dies before that has proposed nothing; one that dies after it finds the proposal and adopts it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import GPSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment, value_at
from lora_core.files import value_digest
from lora_core.randomness import seed_for
from lora_core.tuning.advice import Advice, Tried, best_of, collect_advice, follow_advice, same_changes, words
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.space import Space, changes_of, default_params, narrowed_space, search_space
from lora_core.workspace import Workspace

STARTUP_ROUNDS = 3
"""Rounds before the Gaussian process is asked; Optuna's usual 10 would make a short study pure random search."""

DRAWS = 64
"""How often a round that was tried before is drawn anew, the second half without the diagnosis' narrowing."""

_STUDY_NAME = "rounds"


@dataclass(frozen=True)
class Proposal:
    """What a round is to try.

    Attributes:
        number: the round, from 0.
        trial: its number in the Optuna study.
        changes: values by dotted key, for `lora_core.experiment.with_values`.
        reason: why, in words.
    """

    number: int
    trial: int
    changes: dict[str, Any]
    reason: str


def propose(workspace: Workspace, experiment: Experiment, number: int, findings: Sequence[Finding]) -> Proposal:
    """Decides what round `number` tries; asked again, it answers the same, also after a restart.

    Args:
        workspace: whose `output/<experiment>/study.log` is the study's memory.
        experiment: as written, without the changes of any round.
        number: the round, from 0; round 0 is the experiment as written.
        findings: the diagnosis of the round before, most decisive first.

    Raises:
        ConfigError: a dimension that does not fit its key, a study of another experiment, or nothing left to try.
        DataError: the journal is damaged.
    """
    space = search_space(experiment)
    defaults = default_params(experiment, space)
    journal = _Journal(workspace, experiment)
    if (known := journal.trial(number)) is not None:
        return _proposal(known)
    if number == 0:
        params, changes, reason = defaults, changes_of(experiment, defaults), "the experiment as written"
    elif space:
        params, changes, reason = _search(journal, experiment, number, space, findings)
    else:
        params, (changes, reason) = {}, _follow(journal, experiment, findings)
    journal.start(number, params, space, changes, reason)
    started = journal.trial(number)
    assert started is not None
    return _proposal(started)


def record(workspace: Workspace, experiment: Experiment, number: int, result: dict[str, Any]) -> None:
    """Tells the study how round `number` ended; telling it twice is telling it once.

    Args:
        workspace: as for `propose`.
        experiment: as written.
        number: the round.
        result: the round's `result.json`.

    Raises:
        ConfigError: the round was recorded with another digest, or scored by another metric than the rounds before.
        DataError: the round was never proposed here.
    """
    journal = _Journal(workspace, experiment)
    trial = journal.trial(number)
    if trial is None:
        raise DataError(
            f"{journal.path} knows no round {number}; restore the file, or give the experiment another name"
        )
    metric = result["perceptual"]["name"]
    for other in journal.study.trials:
        if (before := other.user_attrs.get("perceptual", metric)) != metric:
            raise ConfigError(
                f"round {number} was scored with {metric}, round {other.user_attrs['round']} with {before}, and their "
                f"composites cannot be compared; score with {before} again, or give the experiment another name"
            )
    if trial.state.is_finished():
        if trial.user_attrs["digest"] != result["digest"]:
            raise ConfigError(
                f"{journal.path} holds another result of round {number}; give the experiment another name"
            )
        return
    attributes = {"digest": result["digest"], "winner": result["winner"]["id"], "perceptual": metric}
    journal.finish(trial, float(result["winner"]["composite"]), attributes)


class _Journal:
    """The study of one experiment, opened or begun."""

    def __init__(self, workspace: Workspace, experiment: Experiment) -> None:
        self.path = workspace.study(experiment.name).study_log
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a round tries is in its reason, not in the log
        try:
            self._storage = JournalStorage(JournalFileBackend(str(self.path)))
            # `load_if_exists` would write a record at every opening.
            known = _STUDY_NAME in optuna.get_all_study_names(self._storage)
            begin = optuna.load_study if known else partial(optuna.create_study, direction="maximize")
            self.study = begin(storage=self._storage, study_name=_STUDY_NAME)
        except (ValueError, KeyError, UnicodeError) as error:
            raise DataError(
                f"{self.path} is damaged ({error}); restore it, or give the experiment another name"
            ) from error
        self._require_experiment(experiment)

    def _require_experiment(self, experiment: Experiment) -> None:
        dimensions = [dimension.model_dump(mode="json") for dimension in experiment.tuning.dimensions]
        digest = value_digest([dimensions, experiment.digest_of("base", "data", "degradation", "scoring")])
        if "experiment" not in self.study.user_attrs:
            self.study.set_user_attr("experiment", digest)
        elif self.study.user_attrs["experiment"] != digest:
            raise ConfigError(
                f"{self.path} was begun with another seed, base, data, degradation, scoring or tuning.dimensions; "
                "set them back, or give the experiment another name"
            )

    def trial(self, number: int) -> FrozenTrial | None:
        """The trial of a round, running or finished."""
        trials = (trial for trial in self.study.trials if trial.user_attrs["round"] == number)
        return next(trials, None)

    def tried(self) -> list[Tried]:
        """All rounds, finished or running."""
        trials = self.study.trials
        return [Tried(trial.user_attrs["round"], trial.user_attrs["changes"], trial.value) for trial in trials]

    def start(self, number: int, params: dict[str, Any], space: Space, changes: dict[str, Any], reason: str) -> None:
        """Enters a round as running, in one record."""
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=dict[str, BaseDistribution](space),
                user_attrs={"round": number, "changes": changes, "reason": reason},
            )
        )

    def finish(self, trial: FrozenTrial, composite: float, attributes: dict[str, Any]) -> None:
        """Ends a round; the value comes last, for a finished trial takes no more attributes."""
        study_id = self._storage.get_study_id_from_name(_STUDY_NAME)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        self.study.tell(trial.number, composite, skip_if_finished=True)


class _AdvisedSampler(GPSampler):
    """Optuna's Gaussian-process sampler, looking for the next point within the advice only.

    The process is fitted to every round, also to those outside the advice; narrowing the distributions themselves would
    make Optuna take the rounds for another space and forget them.
    """

    def __init__(self, narrowed: Space, seed: int, startup: int) -> None:
        super().__init__(seed=seed % 2**32, n_startup_trials=startup, warn_independent_sampling=False)
        self._narrowed = narrowed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space = super().infer_relative_search_space(study, trial)
        # Words are encoded by their place among the choices, so fewer of them would be others: drawn, not modelled.
        drawn = {
            key for key, axis in self._narrowed.items() if isinstance(axis, CategoricalDistribution) or axis.single()
        }
        return {key: self._narrowed.get(key, axis) for key, axis in space.items() if key not in drawn}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(study, trial, param_name, self._narrowed.get(param_name, param_distribution))

    def _optimize_acqf(self, acqf: Any, best_params: np.ndarray | None) -> np.ndarray:
        # The best round may lie outside the advice, where Optuna's local search must not start.
        return super()._optimize_acqf(acqf, None if self._narrowed else best_params)


def _search(
    journal: _Journal, experiment: Experiment, number: int, space: Space, findings: Sequence[Finding]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Optuna's values, the changes and the reason of a round that was not tried yet."""
    advice = collect_advice(findings)
    narrowed = narrowed_space(space, advice)
    tried = journal.tried()
    finished = [trial for trial in journal.study.trials if trial.state == TrialState.COMPLETE]
    for draw in range(DRAWS):
        within = narrowed if draw < DRAWS // 2 else {}
        modelled = draw == 0 and len(finished) >= STARTUP_ROUNDS
        seed = seed_for(experiment.seed, "propose", number, draw)
        params = _ask(finished, space, _AdvisedSampler(within, seed, 0 if modelled else len(finished) + 1))
        changes = changes_of(experiment, params)
        if any(same_changes(changes, other.changes) for other in tried):
            continue
        how = f"where a Gaussian process over {len(finished)} rounds expects most" if modelled else "drawn at random"
        parts = [_move(experiment, tried, changes), how]
        parts += [f"{key} kept within {advice[key]}" for key in within]
        if advice.keys() - within:
            parts.append(f"suggested, but not within tuning.dimensions: {_list(advice, within)}")
        return params, changes, "; ".join(parts)
    raise ConfigError("every combination of tuning.dimensions has been tried; widen them, or take the best round")


def _follow(journal: _Journal, experiment: Experiment, findings: Sequence[Finding]) -> tuple[dict[str, Any], str]:
    """The changes and the reason of a round that only the diagnosis decides."""
    tried = journal.tried()
    followed = follow_advice(experiment, tried, findings)
    if followed is None:
        raise ConfigError(
            "tuning.dimensions is empty and the diagnosis advises nothing that was not tried; "
            "name dimensions to search, or take the best round"
        )
    changes, key = followed
    advice = collect_advice(findings)
    parts = [_move(experiment, tried, changes), f"advised is {advice[key]}"]
    if len(advice) > 1:
        parts.append(f"one value moves at a time, left for later: {_list(advice, {key})}")
    return changes, "; ".join(parts)


def _ask(finished: list[FrozenTrial], space: Space, sampler: GPSampler) -> dict[str, Any]:
    scratch = optuna.create_study(sampler=sampler, direction="maximize")
    scratch.add_trials(finished)
    return scratch.ask(dict[str, BaseDistribution](space)).params


def _move(experiment: Experiment, tried: Sequence[Tried], changes: dict[str, Any]) -> str:
    """Which values differ from the best round's, and by what."""
    best = best_of(tried)
    settled = best.changes if best else {}
    old = {key: settled.get(key, value_at(experiment, key)) for key in changes}
    moved = [f"{key} {words(old[key])} to {words(value)}" for key, value in changes.items() if value != old[key]]
    start = f"from round {best.number}, the best so far ({best.composite:+.2f} points)" if best else "as written"
    return f"{start}: {', '.join(moved)}"


def _list(advice: Mapping[str, Advice], applied: Collection[str]) -> str:
    return ", ".join(f"{key} {wanted}" for key, wanted in advice.items() if key not in applied)


def _proposal(trial: FrozenTrial) -> Proposal:
    attributes = trial.user_attrs
    return Proposal(attributes["round"], trial.number, attributes["changes"], attributes["reason"])


def _drop_torn_line(journal: Path) -> None:
    """Cuts off a record that a full disk left unfinished: Optuna would glue the next one to it and lose the study."""
    if journal.exists() and not (data := journal.read_bytes()).endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
