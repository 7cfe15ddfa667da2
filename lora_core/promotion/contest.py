"""A candidate against the present champion, photograph by photograph; against the degraded input where there is none.

Both were chosen as the best of their grids on these same photographs, so both composites are slightly flattering, and
the p with them; it is no promise for other photographs.
"""

from dataclasses import dataclass
from statistics import fmean

from lora_core.promotion.scores import PhotoScores, refusal
from lora_core.report.words import SPACE, chance, counted, number, signed
from lora_core.scoring.statistics import bootstrap_interval, p_above

SIGNIFICANT = 0.05
"""A difference is significant where p is at most this; the test is one-sided."""

INPUT = "the degraded input"
_FEWEST = 5
"""Photographs below which even a gain on each has a p above 0.05: 1/2 to the power of their number."""


@dataclass(frozen=True)
class Contest:
    """How a candidate does against a rival; all composites are in points.

    Attributes:
        rival: the champion or the degraded input, in words.
        refusal: why they cannot be compared; None where they can. The numbers then say nothing.
        photos: test photographs.
        difference: of the composites, its mean over the photographs.
        low, high: 95 % bootstrap interval of that mean; None where one photograph says nothing of the spread.
        p: one-sided paired Wilcoxon signed-rank test that the differences lie above 0.
        better: photographs on which the candidate is ahead.
        less_feasible: the rival meets the constraints and the candidate does not.
    """

    rival: str
    refusal: str | None = None
    photos: int = 0
    difference: float = 0.0
    low: float | None = None
    high: float | None = None
    p: float = 1.0
    better: int = 0
    less_feasible: bool = False

    @property
    def won(self) -> bool:
        """Whether the candidate is better, with significance."""
        ahead = self.refusal is None and self.difference > 0 and self.p <= SIGNIFICANT
        return ahead and not self.less_feasible


def hold_contest(candidate: PhotoScores, champion: PhotoScores | None, rival: str, seed: int) -> Contest:
    """Compares two LoRAs by their scores on the same photographs.

    Args:
        candidate: the challenger.
        champion: None where there is no champion: the rival is the degraded input, whose composites are 0.
        rival: what to call it.
        seed: of the resampling.
    """
    if champion is not None and (reason := refusal(candidate, champion)) is not None:
        return Contest(rival, reason)
    theirs = dict.fromkeys(candidate.points, 0.0) if champion is None else champion.points
    differences = [points - theirs[photo] for photo, points in sorted(candidate.points.items())]
    low, high = bootstrap_interval(differences, seed)
    return Contest(
        rival=rival,
        photos=len(differences),
        difference=fmean(differences),
        low=low,
        high=high,
        p=p_above(differences),
        better=sum(difference > 0 for difference in differences),
        less_feasible=not candidate.feasible and (champion is None or champion.feasible),
    )


def contest_in_words(contest: Contest) -> str:
    """The contest in a sentence or two."""
    if contest.refusal is not None:
        return f"It cannot be compared with {contest.rival}: {contest.refusal}."
    span = ""
    if contest.low is not None and contest.high is not None:
        span = f", 95{SPACE}% interval {signed(contest.low, 2)} to {signed(contest.high, 2)},"
    side = "ahead of" if contest.difference > 0 else "behind" if contest.difference < 0 else "level with"
    says = (
        f"It is {number(abs(contest.difference), 2)} points {side} {contest.rival}{span} and better on "
        f"{contest.better} of {counted(contest.photos, 'photograph')}, {chance(contest.p)}: {_verdict(contest)}."
    )
    if contest.photos < _FEWEST:
        says += f" So few photographs cannot show significance; {_FEWEST} are the least."
    return says


def _verdict(contest: Contest) -> str:
    if contest.less_feasible:
        return "but it does not meet the constraints of scoring"
    return "significant" if contest.won else "not significant"
