"""What picks the values of a round: `tuning.strategy`, one object each, all with the same interface.

A strategy is a pure function of what is asked: of the rounds so far, the diagnosis of the last one, and the seed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from lora_core.errors import ConfigError, NothingLeft
from lora_core.experiment import NOT_COMPARED, Experiment, apply_overrides, value_at
from lora_core.randomness import seed_for
from lora_core.tuning.advice import Advice, Tried, best_of, collect_advice, follow_advice, same_changes, words
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.samplers import STARTUP_ROUNDS, AdvisedSampler, ask, parzen_sampler, random_sampler
from lora_core.tuning.space import Space, active_params, changes_of, narrowed_space

DRAWS = 64
"""How often a round that was tried before is drawn anew, the second half without the diagnosis' narrowing."""


@dataclass(frozen=True)
class Question:
    """All that a strategy may look at.

    Attributes:
        experiment: as written.
        number: the round that is wanted.
        space: of the search; empty where nothing is searched.
        defaults: the experiment's own values of the space, as Optuna keeps them.
        tried: the rounds so far.
        learnt: finished rounds with every parameter of the space, those of earlier studies first.
        running: rounds that were proposed and have not ended, with every parameter of the space.
        findings: the diagnosis of the round before.
        remarks: what the reason has to say beside.
    """

    experiment: Experiment
    number: int
    space: Space
    defaults: dict[str, Any]
    tried: Sequence[Tried]
    learnt: Sequence[FrozenTrial]
    running: Sequence[FrozenTrial]
    findings: Sequence[Finding]
    remarks: Sequence[str] = ()

    def seed(self, draw: int) -> int:
        """Of a draw for this round."""
        return seed_for(self.experiment.seed, "propose", self.number, draw)


@dataclass(frozen=True)
class Draft:
    """A round as a strategy wants it.

    Attributes:
        params: as Optuna keeps them; those whose conditions hold.
        changes: as the experiment wants them.
        reason: in words.
    """

    params: dict[str, Any]
    changes: dict[str, Any]
    reason: str


class Strategy(Protocol):
    """What picks the values of a round."""

    def draft(self, question: Question) -> Draft:
        """The round. Raises ConfigError where nothing is left to try."""


class Search:
    """Draws a round that was not tried yet from a sampler; what the diagnosis says is only told."""

    def __init__(self, how: str, sampler: Callable[[int], BaseSampler], startup: int) -> None:
        """`how` is for the reason, with {n} rounds; before `startup` rounds chance decides."""
        self._how, self._sampler, self._startup = how, sampler, startup

    def draft(self, question: Question) -> Draft:
        """As `Strategy`."""
        if question.number == 0:
            return _as_written(question)
        known = len(question.learnt)
        for draw in range(DRAWS):
            # The same model would propose the same round again: only its first answer is asked for.
            modelled = draw == 0 and known >= self._startup
            sampler = (self._sampler if modelled else random_sampler)(question.seed(draw))
            wanted = ask([*question.learnt, *question.running], question.space, sampler)
            if (params := _untried(question, wanted)) is not None:
                how = self._how.format(n=known) if modelled else "drawn at random"
                return _searched(question, params, how, {})
        raise _exhausted()


class GaussianProcess:
    """Where a Gaussian process expects most, within what the diagnosis advises."""

    def draft(self, question: Question) -> Draft:
        """As `Strategy`."""
        if question.number == 0:
            return _as_written(question)
        narrowed = narrowed_space(question.space, collect_advice(question.findings))
        known = len(question.learnt)
        for draw in range(DRAWS):
            within = narrowed if draw < DRAWS // 2 else {}
            modelled = draw == 0 and known >= STARTUP_ROUNDS
            wanted = self._ask(question, within, question.seed(draw), modelled)
            if (params := _untried(question, wanted)) is not None:
                how = f"where a Gaussian process over {known} rounds expects most" if modelled else "drawn at random"
                return _searched(question, params, how, within)
        raise _exhausted()

    def _ask(self, question: Question, within: Space, seed: int, modelled: bool) -> dict[str, Any]:
        if modelled:
            return ask([*question.learnt, *question.running], question.space, AdvisedSampler(within, seed))
        return ask([], {**question.space, **within}, random_sampler(seed))


class Rules:
    """The best round so far with one value moved as its diagnosis advises."""

    def draft(self, question: Question) -> Draft:
        """As `Strategy`."""
        if question.number == 0:
            return _as_written(question)
        followed = follow_advice(question.experiment, question.tried, question.findings)
        if followed is None:
            raise NothingLeft(
                "tuning.dimensions is empty and the diagnosis advises nothing that was not tried; "
                "name dimensions to search, or take the best round"
            )
        changes, key = followed
        advice = collect_advice(question.findings)
        parts = [_move(question, changes), f"advised is {advice[key]}"]
        if len(advice) > 1:
            parts.append(f"one value moves at a time, left for later: {_list(advice, {key})}")
        return Draft({}, changes, "; ".join(parts))


class Manual:
    """The rounds of `tuning.manual`, one after the other."""

    def draft(self, question: Question) -> Draft:
        """As `Strategy`."""
        listed = manual_rounds(question.experiment)
        if question.number >= len(listed):
            raise NothingLeft(f"tuning.manual lists {len(listed)} rounds and all are done; add some, or stop here")
        changes = listed[question.number]
        reason = f"round {question.number + 1} of the {len(listed)} in tuning.manual"
        return Draft({}, changes, f"{reason}: {_assignments(changes)}" if changes else f"{reason}, as written")


def strategy_of(experiment: Experiment) -> Strategy:
    """The strategy that the experiment asks for; where nothing is searched, a search comes down to the rules."""
    name = experiment.tuning.strategy
    if name != "manual" and not experiment.tuning.dimensions:
        return Rules()
    return _STRATEGIES[name]


def manual_rounds(experiment: Experiment) -> list[dict[str, Any]]:
    """The changes of every round of `tuning.manual`.

    Raises:
        ConfigError: naming the round: no key=value, an unknown key, a value that the key refuses, a key that no round
            may change, a round given twice.
    """
    rounds: list[dict[str, Any]] = []
    for number, assignments in enumerate(experiment.tuning.manual):
        keys = [assignment.partition("=")[0].strip() for assignment in assignments]
        for key in keys:
            if key.startswith(NOT_COMPARED) or key in ("name", "seed"):
                raise ConfigError(f"tuning.manual, round {number}: {key} would change what the rounds are compared by")
        if len(set(keys)) != len(keys):
            raise ConfigError(f"tuning.manual, round {number}: a key is given twice in {', '.join(assignments)}")
        try:
            changed = apply_overrides(experiment, list(assignments))
        except ConfigError as error:
            raise ConfigError(f"tuning.manual, round {number}: {error}") from error
        plain = changed.model_dump(mode="json")
        changes = {key: plain[key.split(".")[0]][key.split(".")[1]] for key in keys}
        if any(same_changes(changes, other) for other in rounds):
            raise ConfigError(
                f"tuning.manual, round {number}: {', '.join(assignments) or 'as written'} is there before"
            )
        rounds.append(changes)
    return rounds


def imputed(trials: Sequence[FrozenTrial], space: Space, defaults: Mapping[str, Any]) -> list[FrozenTrial]:
    """Trials as a model wants them: a value for every parameter, and one for the score of those that were pruned.

    A parameter whose condition does not hold has no influence; the experiment's own value stands for it. A round that
    was pruned or meets no constraint counts as much as the worst scored one, or else as nothing: the input has 0.
    """
    from optuna.trial import TrialState, create_trial

    finished = [trial for trial in trials if trial.state.is_finished()]
    worst = min((trial.value for trial in finished if trial.value is not None), default=0.0)
    return [
        create_trial(
            params={key: trial.params.get(key, defaults[key]) for key in space},
            distributions=dict(space),
            value=trial.value
            if trial.state == TrialState.COMPLETE and trial.user_attrs.get("feasible", True)
            else worst,
        )
        for trial in finished
    ]


def pending(trials: Sequence[FrozenTrial], space: Space, defaults: Mapping[str, Any]) -> list[FrozenTrial]:
    """The rounds that are running, as a model wants them: it looks elsewhere than where they are."""
    from optuna.trial import TrialState, create_trial

    return [
        create_trial(
            state=TrialState.RUNNING,
            params={key: trial.params.get(key, defaults[key]) for key in space},
            distributions=dict(space),
        )
        for trial in trials
        if trial.state == TrialState.RUNNING
    ]


def _as_written(question: Question) -> Draft:
    params = active_params(question.experiment, question.defaults)
    return Draft(params, changes_of(question.experiment, params), "the experiment as written")


def _untried(question: Question, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The active ones of these parameters; None where a round tried them before."""
    params = active_params(question.experiment, wanted)
    changes = changes_of(question.experiment, params)
    return None if any(same_changes(changes, other.changes) for other in question.tried) else params


def _searched(question: Question, params: dict[str, Any], how: str, within: Space) -> Draft:
    advice, changes = collect_advice(question.findings), changes_of(question.experiment, params)
    parts = [_move(question, changes), how]
    parts += [f"{key} kept within {advice[key]}" for key in within]
    if beyond := {key: wanted for key, wanted in advice.items() if key not in question.space or key not in within}:
        outside = all(key not in question.space or _outside(question.space[key], beyond[key]) for key in beyond)
        label = "suggested, but not within tuning.dimensions" if outside else "suggested, but not followed"
        parts.append(f"{label}: {_list(beyond, ())}")
    return Draft(params, changes, "; ".join([*parts, *question.remarks]))


def _outside(axis: Any, advice: Advice) -> bool:
    return not narrowed_space({"": axis}, {"": advice})


def _move(question: Question, changes: dict[str, Any]) -> str:
    """Which values differ from the best round's, and by what."""
    best = best_of(question.tried)
    settled = best.changes if best else {}
    old = {key: settled.get(key, value_at(question.experiment, key)) for key in changes}
    moved = [f"{key} {words(old[key])} to {words(value)}" for key, value in changes.items() if value != old[key]]
    start = f"from round {best.number}, the best so far ({best.composite:+.2f} points)" if best else "as written"
    return f"{start}: {', '.join(moved) or 'nothing but what it leaves as written'}"


def _list(advice: Mapping[str, Advice], applied: Collection[str]) -> str:
    return ", ".join(f"{key} {wanted}" for key, wanted in advice.items() if key not in applied)


def _assignments(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={words(value)}" for key, value in changes.items())


def _exhausted() -> NothingLeft:
    return NothingLeft(
        f"{DRAWS} draws gave no round that was not tried; widen tuning.dimensions, or take the best round"
    )


_STRATEGIES: dict[str, Strategy] = {
    "gp": GaussianProcess(),
    "tpe": Search("where Parzen estimators over {n} rounds expect most", parzen_sampler, STARTUP_ROUNDS),
    "random": Search("drawn at random", random_sampler, 0),
    "rules": Rules(),
    "manual": Manual(),
}
