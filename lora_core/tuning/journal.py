"""The memory of a study: an Optuna journal file, one trial a round, which optuna-dashboard opens as it is."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.tuning.advice import Tried
from lora_core.tuning.space import Space

STUDY_NAME = "rounds"


def open_journal(path: Path) -> tuple[JournalStorage, optuna.Study | None]:
    """The storage of a journal file and the study in it; None where it holds none yet.

    Reads only, for the study may be running elsewhere; Optuna passes over a last record that is not whole.

    Raises:
        DataError: the file is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a round tries is in its reason, not in the log
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        if STUDY_NAME not in optuna.get_all_study_names(storage):
            return storage, None
        study = optuna.load_study(storage=storage, study_name=STUDY_NAME)
        if any("round" not in trial.user_attrs for trial in study.trials):
            raise KeyError("a trial without its round")
    except (ValueError, KeyError, TypeError, AssertionError) as error:  # whatever Optuna meets in a strange record
        raise DataError(f"{path} is damaged ({error}); restore it, or give the experiment another name") from error
    return storage, study


class Journal:
    """The study of one experiment, opened or begun."""

    def __init__(self, path: Path, experiment: Experiment) -> None:
        """Opens `path`, or begins the study there.

        Raises:
            ConfigError: it is the study of another experiment.
            DataError: it is damaged.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        self._storage, known = open_journal(path)
        # `load_if_exists` would write a record at every opening.
        begin = partial(optuna.create_study, direction="maximize", storage=self._storage, study_name=STUDY_NAME)
        self.study = known if known is not None else begin()
        self._require_experiment(experiment)

    def _require_experiment(self, experiment: Experiment) -> None:
        dimensions = [dimension.model_dump(mode="json") for dimension in experiment.tuning.dimensions]
        digest = value_digest(
            [dimensions, scoring_digest(experiment), experiment.digest_of("base", "data", "degradation")]
        )
        if "experiment" not in self.study.user_attrs:
            self.study.set_user_attr("scoring", scoring_digest(experiment))
            self.study.set_user_attr("experiment", digest)
        elif self.study.user_attrs["experiment"] != digest:
            raise ConfigError(
                f"{self.path} was begun with another seed, base, data, degradation, scoring or tuning.dimensions; "
                "set them back, or give the experiment another name"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All rounds, in the order in which they were proposed."""
        return self.study.trials

    def trial(self, number: int) -> FrozenTrial | None:
        """The trial of a round, running or finished."""
        return next((trial for trial in self.trials if trial.user_attrs["round"] == number), None)

    def tried(self) -> list[Tried]:
        """All rounds, finished or running."""
        return [
            Tried(known["round"], known["changes"], trial.value, known.get("feasible", True))
            for trial in self.trials
            for known in (trial.user_attrs,)
        ]

    def start(self, number: int, params: dict[str, Any], space: Space, changes: dict[str, Any], reason: str) -> None:
        """Enters a round as running, in one record."""
        distributions: dict[str, BaseDistribution] = {key: space[key] for key in params}
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=distributions,
                user_attrs={"round": number, "changes": changes, "reason": reason},
            )
        )

    def finish(
        self,
        trial: FrozenTrial,
        composite: float | None,
        attributes: dict[str, Any],
        curve: Sequence[tuple[int, float]],
    ) -> None:
        """Ends a round; the state comes last, for a finished trial takes no more attributes.

        Args:
            composite: points of the winner; None: the round was pruned.
            attributes: of the trial.
            curve: (images, validation loss as a share of the base's); the trial's intermediate values.
        """
        study_id = self._storage.get_study_id_from_name(STUDY_NAME)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        for images, loss in ((images, loss) for images, loss in curve if math.isfinite(loss)):
            self._storage.set_trial_intermediate_value(trial_id, images, loss)
        if composite is None:
            # `study.tell` would take the last loss for the value of a pruned trial.
            self._storage.set_trial_state_values(trial_id, TrialState.PRUNED)
        else:
            self.study.tell(trial.number, composite, skip_if_finished=True)


def scoring_digest(experiment: Experiment) -> str:
    """sha256 over what a composite means; equal ones can be compared, given the same perceptual metric."""
    return value_digest(experiment.scoring.deciding())


def _drop_torn_line(journal: Path) -> None:
    """Cuts off a record that a full disk left unfinished: Optuna would glue the next one to it and lose the study."""
    if journal.exists() and not (data := journal.read_bytes()).endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
