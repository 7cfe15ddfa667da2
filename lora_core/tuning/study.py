"""The proposer: an Optuna study in ask/tell form on a journal file, one trial a round.

A proposal is a function of the journal, the seed and the round: the sampler is built anew for each ask, and asked in a
study in memory, so that the trial enters the journal as one record with its values, its changes and its reason. A
process that dies before that has proposed nothing; one that dies after it finds the proposal and adopts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment
from lora_core.promotion.decisions import remarks
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.journal import Journal
from lora_core.tuning.pruning import shares
from lora_core.tuning.space import default_params, search_space
from lora_core.tuning.strategies import Question, imputed, manual_rounds, pending, strategy_of
from lora_core.tuning.warm import Earlier, earlier_rounds
from lora_core.workspace import Workspace


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
        number: the round, from 0; round 0 is the experiment as written, but with `tuning.strategy=manual`.
        findings: the diagnosis of the round before, most decisive first.

    Raises:
        ConfigError: a dimension that does not fit its key, a round of `tuning.manual` that is not valid, an earlier
            study that does not fit, or a study of another experiment.
        NothingLeft: every round that could be proposed was tried.
        DataError: the journal is damaged.
    """
    space = search_space(experiment)
    defaults = default_params(experiment, space)
    manual_rounds(experiment)
    earlier = _earlier(workspace, experiment)
    journal = Journal(workspace.study(experiment.name).study_log, experiment)
    if (known := journal.trial(number)) is not None:
        return _proposal(known)
    question = Question(
        experiment,
        number,
        space,
        defaults,
        journal.tried(),
        imputed([*(trial for one in earlier for trial in one.trials), *journal.trials], space, defaults),
        pending(journal.trials, space, defaults),
        findings,
        [*(one.remark for one in earlier), *remarks(workspace.study(experiment.name))],
    )
    draft = strategy_of(experiment).draft(question)
    journal.start(number, draft.params, space, draft.changes, draft.reason)
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
    journal = Journal(workspace.study(experiment.name).study_log, experiment)
    trial = journal.trial(number)
    if trial is None:
        raise DataError(
            f"{journal.path} knows no round {number}; restore the file, or give the experiment another name"
        )
    if not (pruned := result.get("pruned", False)):
        _require_metric(journal, number, result["perceptual"]["name"])
    if trial.state.is_finished():
        if trial.user_attrs["digest"] != result["digest"] or (trial.state == TrialState.PRUNED) != pruned:
            raise ConfigError(
                f"{journal.path} holds another result of round {number}; give the experiment another name"
            )
        return
    attributes: dict[str, Any] = {"digest": result["digest"]}
    if pruned:
        attributes["pruned_because"] = result["pruned_because"]
    else:
        winner = result["winner"]
        attributes |= {"winner": winner["id"], "perceptual": result["perceptual"]["name"]}
        attributes |= {"feasible": winner.get("feasible") is not False}
    composite = None if pruned else float(result["winner"]["composite"])
    journal.finish(trial, composite, attributes, shares(result.get("validations", [])))


def _earlier(workspace: Workspace, experiment: Experiment) -> list[Earlier]:
    """The earlier studies that the search learns from, refused before this one is begun where they do not fit."""
    if not experiment.tuning.warm_start:
        return []
    from lora_core.perceptual import choose_perceptual

    metric = choose_perceptual(experiment.scoring).name
    return earlier_rounds(workspace, experiment, search_space(experiment), metric)


def _require_metric(journal: Journal, number: int, metric: str) -> None:
    for other in journal.trials:
        if (before := other.user_attrs.get("perceptual", metric)) != metric:
            raise ConfigError(
                f"round {number} was scored with {metric}, round {other.user_attrs['round']} with {before}, and their "
                f"composites cannot be compared; score with {before} again, or give the experiment another name"
            )


def _proposal(trial: FrozenTrial) -> Proposal:
    attributes = trial.user_attrs
    return Proposal(attributes["round"], trial.number, attributes["changes"], attributes["reason"])
