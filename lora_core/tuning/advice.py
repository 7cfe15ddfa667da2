"""What the findings of a round advise, key by key, and the next round that follows from advice alone."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_core.experiment import Experiment, value_at
from lora_core.tuning.diagnosis import Finding


@dataclass(frozen=True)
class Advice:
    """Where to look for a better value of one key.

    Attributes:
        code: the finding that says so.
        low: lower end of the range of a number; None for words.
        high: upper end; None for words.
        choices: words to choose from.
    """

    code: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = " or ".join(self.choices) if self.choices else f"{words(self.low)} to {words(self.high)}"
        return f"{where} ({self.code})"


@dataclass(frozen=True)
class Tried:
    """A round that is known.

    Attributes:
        number: from 0.
        changes: what it set.
        composite: points of its winner; None while it runs, or pruned.
        feasible: whether its winner meets the constraints.
    """

    number: int
    changes: dict[str, Any]
    composite: float | None
    feasible: bool = True


def collect_advice(findings: Iterable[Finding]) -> dict[str, Advice]:
    """The advice by key. Findings come most decisive first, so the first that speaks of a key is heard."""
    advice: dict[str, Advice] = {}
    for finding in findings:
        for key, wanted in finding.advice.items():
            if key not in advice:
                choices = tuple(wanted.get("choices", ()))
                advice[key] = Advice(finding.code, wanted.get("low"), wanted.get("high"), choices)
    return advice


def follow_advice(
    experiment: Experiment, tried: Sequence[Tried], findings: Iterable[Finding]
) -> tuple[dict[str, Any], str] | None:
    """The next round where nothing is searched: the best round so far with one value moved as advised.

    One value at a time, so that the next diagnosis knows what it judges; the first advice that leads to a round not
    tried yet is taken. A number goes to the (geometric) middle of the advised range, a grid gets one value more.

    Returns:
        The changes and the key that moved, or None: nothing is advised, or all of it was tried.
    """
    best = best_of(tried)
    settled = best.changes if best else {}
    for key, advice in collect_advice(findings).items():
        current = settled.get(key, value_at(experiment, key))
        value = _advised_value(current, advice)
        changes = {**settled, key: value}
        if value is not None and not any(same_changes(changes, other.changes) for other in tried):
            return changes, key
    return None


def best_of(tried: Iterable[Tried]) -> Tried | None:
    """The finished round that ranks highest, as `lora_core.scoring.rank` has it; the earlier of equals."""
    finished = [round_ for round_ in tried if round_.composite is not None]
    return max(finished, key=lambda round_: (round_.feasible, round_.composite or 0.0), default=None)


def same_changes(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two rounds would tell nothing new: equal words and integers, numbers within half a percent."""
    return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)


def words(value: Any) -> str:
    """A value for a person: numbers to three digits."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(words(item) for item in value)}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _alike(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=5e-3, abs_tol=1e-9)
    return bool(first == second)


def _advised_value(current: Any, advice: Advice) -> Any:
    """The value to try, of the type of `current`; None where the advice leaves the current one as it is."""
    if isinstance(current, list | tuple):
        return _longer_grid(current, advice)
    if advice.choices:
        return None if current in advice.choices else advice.choices[0]
    if advice.low is None or advice.high is None or isinstance(current, str | bool | None):
        return None
    middle = _middle(advice.low, advice.high)
    if isinstance(current, float):
        return None if _alike(current, middle) else middle
    return next((value for value in (round(middle), round(advice.high), round(advice.low)) if value != current), None)


def _longer_grid(grid: Sequence[float], advice: Advice) -> list[float] | None:
    """The grid with the end of the range that lies outside it, or else with the middle of the range."""
    if advice.low is None or advice.high is None:
        return None
    kind = type(grid[0])
    ends = [end for end in (advice.low, advice.high) if not min(grid) <= end <= max(grid)]
    new = kind(ends[0] if ends else _middle(advice.low, advice.high))
    return None if new in grid else sorted([*grid, new])


def _middle(low: float, high: float) -> float:
    return math.sqrt(low * high) if low > 0 else (low + high) / 2
