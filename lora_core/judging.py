"""What people preferred in blind comparisons: a file a judge, and the score that they add up to."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lora_core.errors import DataError
from lora_core.files import finished_files, read_json, value_digest, write_json
from lora_core.workspace import StudyFolder

Outcome = Literal["win", "loss", "tie"]


@dataclass(frozen=True)
class Judgement:
    """One judge's choices on one page.

    Attributes:
        page: digest of the page.
        session: who judged, as a random name that the page drew.
        round: whose winner was judged.
        winner: id of its cell.
        against: what it was compared with: base, input, classical, or round:N.
        rival: id of that cell or reference.
        rival_name: what a person calls it.
        asked: comparisons on the page.
        outcomes: of the winner, by photograph.
    """

    page: str
    session: str
    round: int
    winner: str
    against: str
    rival: str
    rival_name: str
    asked: int
    outcomes: dict[str, Outcome]

    @property
    def digest(self) -> str:
        """sha256 of the judgement, which names its file: the same choices are one judgement."""
        return value_digest(asdict(self))


@dataclass(frozen=True)
class HumanScore:
    """Judgements of the same two candidates, added up.

    Attributes:
        judges: how many people, or sittings.
        wins, losses, ties: comparisons that went for the winner, against it, or neither way.
    """

    rival_name: str
    judges: int
    wins: int
    losses: int
    ties: int

    @property
    def decided(self) -> int:
        """Comparisons in which one side was preferred."""
        return self.wins + self.losses

    @property
    def comparisons(self) -> int:
        """All of them."""
        return self.decided + self.ties

    @property
    def share(self) -> float | None:
        """Share of the decided comparisons that the winner won; None where none was decided."""
        return self.wins / self.decided if self.decided else None

    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of `share` (JASA 1927)."""
        if not self.decided:
            return None
        low, high = _sign_test(self).proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    def p(self) -> float | None:
        """The sign test: how likely so lopsided a count is where nobody has a preference; two-sided, without ties."""
        return float(_sign_test(self).pvalue) if self.decided else None


def _sign_test(score: HumanScore) -> Any:
    from scipy.stats import binomtest  # type: ignore[import-untyped]  # slow to import, and the words are read by all

    return binomtest(score.wins, score.decided)


def read_judgements(study: StudyFolder) -> list[Judgement]:
    """All judgements of a study, in the order of their files' names.

    Raises:
        DataError: a file is damaged.
    """
    return [_read(path) for path in finished_files(study.judgements, ".json")]


def write_judgement(study: StudyFolder, judgement: Judgement) -> bool:
    """Stores a judgement under its digest. A judge who went on with the same page replaces what was stored before.

    Returns:
        False where it was there already.

    Raises:
        DataError: the same judge has judged more of this page, or a stored file is damaged.
        ResourceError: the file cannot be written.
    """
    earlier = [one for one in read_judgements(study) if (one.page, one.session) == (judgement.page, judgement.session)]
    if judgement in earlier:
        return False
    for one in earlier:
        if len(one.outcomes) > len(judgement.outcomes):
            raise DataError(
                f"{study.judgements / one.digest}.json already holds {len(one.outcomes)} choices of the same judge on "
                f"this page, these are {len(judgement.outcomes)}; give the later download"
            )
    write_json(study.judgements / f"{judgement.digest}.json", asdict(judgement))
    for one in earlier:
        (study.judgements / f"{one.digest}.json").unlink(missing_ok=True)
    return True


def human_scores(judgements: Iterable[Judgement], winner: str) -> list[HumanScore]:
    """What all judges of one winner preferred, a score for each rival, in the order of the rivals' names."""
    groups: dict[tuple[str, str], list[Judgement]] = {}
    for one in judgements:
        if one.winner == winner:
            groups.setdefault((one.rival_name, one.rival), []).append(one)
    return [_score(name, group) for (name, _), group in sorted(groups.items())]


def _score(name: str, group: list[Judgement]) -> HumanScore:
    outcomes = [outcome for one in group for outcome in one.outcomes.values()]
    counts = (outcomes.count("win"), outcomes.count("loss"), outcomes.count("tie"))
    return HumanScore(name, len(group), *counts)


def _read(path: Path) -> Judgement:
    try:
        return Judgement(**read_json(path))
    except TypeError as error:
        raise DataError(f"{path} is not a judgement of this version ({error}); delete it and judge again") from error
