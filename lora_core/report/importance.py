"""Which of the searched parameters the composite depends on, as far as the rounds can tell."""

from dataclasses import dataclass

from lora_core.report.data import StudyData
from lora_core.report.words import counted, percent


@dataclass(frozen=True)
class Importance:
    """What getting among the best rounds depends on, the largest share first.

    Attributes:
        sentence: what they rest on, or why there are none.
        shares: (key, share between 0 and 1, the share in words).
    """

    sentence: str
    shares: list[tuple[str, float, str]]


def tell_importance(study: StudyData) -> Importance | None:
    """The importance of the searched parameters; None where nothing is searched."""
    if not study.experiment.tuning.dimensions or not study.folder.study_log.exists():
        return None
    from lora_core.tuning.importance import LEAST, importance  # Optuna is slow to import

    found = importance(study.workspace, study.experiment)
    if found.n < LEAST:
        return Importance(f"Needs {LEAST} finished rounds with scores; there {_are(found.n)}.", [])
    if not found.shares:
        return Importance(f"Nothing to tell: the {found.n} rounds searched nothing, or scored all the same.", [])
    shares = sorted(found.shares, key=lambda part: (-part[1], part[0]))
    return Importance(
        "How much it depends on each searched parameter whether a round is among the best third, from "
        f"{counted(found.n, 'round')} (PED-ANOVA). {_trust(found.n)}",
        [(key, share, percent(share)) for key, share in shares],
    )


def _are(rounds: int) -> str:
    return "is 1" if rounds == 1 else f"are {rounds}"


def _trust(rounds: int) -> str:
    return "With so few rounds this is a hint and no more." if rounds < 20 else "Rounds that are alike count alike."
