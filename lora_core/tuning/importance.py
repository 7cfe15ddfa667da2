"""Which searched parameters the composite depends on, by Optuna's PED-ANOVA (Watanabe et al. 2023)."""

from dataclasses import dataclass, field

from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.tuning.journal import open_journal
from lora_core.workspace import Workspace

LEAST = 4
"""Scored rounds below which a share would be noise."""

TOP = 0.34
"""Share of the rounds that count as good; Optuna's tenth is no round at all of a short study."""


@dataclass(frozen=True)
class Importances:
    """Shares of the parameters.

    Attributes:
        n: scored rounds that they rest on; pruned ones have no score.
        shares: (key, share), the largest first, together 1; empty below `LEAST` rounds, and where all scores are equal.
    """

    n: int
    shares: list[tuple[str, float]] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.shares:
            return f"Importance: {self.n} scored rounds; {LEAST} with different scores are needed."
        listed = ", ".join(f"{key} {share:.0%}" for key, share in self.shares)
        return f"Importance over {self.n} scored rounds: {listed}."


def importance(workspace: Workspace, experiment: Experiment) -> Importances:
    """The importance of each searched parameter for getting among the good rounds.

    Raises:
        DataError: the journal is damaged.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    path = workspace.study(experiment.name).study_log
    study = open_journal(path)[1] if path.exists() else None
    if study is None:
        return Importances(0)
    scored = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    searched = sorted({key for trial in scored for key in trial.params})
    if len(scored) < LEAST or not searched or len({trial.value for trial in scored}) == 1:
        return Importances(len(scored))
    scratch = optuna.create_study(direction="maximize")
    scratch.add_trials(scored)
    try:
        found = get_param_importances(scratch, evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP))
    except RuntimeError as error:
        raise DataError(f"{path}: the importance of the parameters cannot be told ({error})") from error
    return Importances(len(scored), sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
