"""Lists of numbers in the web UIs' short form: `0.2-0.8 [4]`, `1-10 (+2)`, `1-5`, and any of these with commas.

It is the syntax of A1111's X/Y/Z plot, which people know. A list is taken as it is, its items may be short forms.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(
    rf"(?P<low>{_NUMBER})\s*-\s*(?P<high>{_NUMBER})\s*"
    rf"(?:\[\s*(?P<count>\d+)\s*\]|\(\s*\+?(?P<step>{_NUMBER})\s*\))?"
)
_MOST = 10_000


def expand(value: Any) -> Any:
    """A short form, or a list of numbers and short forms, as a list of numbers; anything else as it is.

    `low-high [count]` gives so many values with both ends, `low-high (+step)` goes on while it does not pass `high`,
    and `low-high` alone counts in whole numbers.

    Raises:
        ValueError: it is no number and no range, or a range that is empty or endless.
    """
    if isinstance(value, str):
        return [number for part in value.split(",") for number in _part(part.strip())]
    if isinstance(value, list | tuple):
        return [number for item in value for number in (expand(item) if isinstance(item, str) else [item])]
    return value


def _part(text: str) -> list[float | int]:
    if re.fullmatch(_NUMBER, text):
        return [_number(text)]
    if not (found := _RANGE.fullmatch(text)):
        raise ValueError(f"'{text}' is neither a number nor a range such as '0.2-0.8 [4]' or '1-10 (+2)'")
    low, high = _number(found["low"]), _number(found["high"])
    if low > high:
        raise ValueError(f"'{text}' runs downwards; write the lower end first")
    if found["count"]:
        return _spread(text, low, high, int(found["count"]))
    if not found["step"] and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError(f"'{text}' does not say how many: write '{text} [4]' or '{text} (+0.1)'")
    return _steps(text, low, high, _number(found["step"] or "1"))


def _spread(text: str, low: float, high: float, count: int) -> list[float | int]:
    if count < 2 or count > _MOST:
        raise ValueError(f"'{text}': a range has 2 to {_MOST} values")
    values = [low + (high - low) * place / (count - 1) for place in range(count)]
    whole = isinstance(low, int) and isinstance(high, int) and all(value == int(value) for value in values)
    return [int(value) if whole else _rounded(value) for value in values]


def _steps(text: str, low: float, high: float, step: float) -> list[float | int]:
    if step <= 0 or (high - low) / step > _MOST:
        raise ValueError(f"'{text}': the step must be above 0 and leave at most {_MOST} values")
    count = int((high - low) / step + 1e-9) + 1
    values = [low + step * place for place in range(count)]
    return [value if isinstance(value, int) else _rounded(value) for value in values]


def _number(text: str) -> float | int:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _rounded(value: float) -> float:
    """0.30000000000000004 is 0.3: what a person would have written."""
    return float(f"{value:.10g}")


Numbers = Annotated[tuple[float, ...], BeforeValidator(expand)]
"""Numbers, given as a list or in the short form."""
WholeNumbers = Annotated[tuple[int, ...], BeforeValidator(expand)]
"""Whole numbers, given as a list or in the short form."""
