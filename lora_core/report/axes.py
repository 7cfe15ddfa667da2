"""Axes: scales, ticks at round numbers, and the frame of a chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_core.report.svg import FONT, element, line, text, text_width

_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """Values to pixels; `start` may be above `end`, and values beyond the domain land on its edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        share = min(1.0, max(0.0, share))
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        title: quantity and unit.
        low, high: the domain.
        ticks: (value, label) pairs inside the domain.
        flipped: the low end is where the high end would be.
    """

    title: str
    low: float
    high: float
    ticks: list[tuple[float, str]]
    log: bool = False
    flipped: bool = False

    def label_width(self) -> float:
        """Pixels of the widest tick label."""
        return max((text_width(label) for _, label in self.ticks), default=0.0)


def linear_axis(
    title: str, values: Sequence[float], room: float, *, vertical: bool, pad: float = 0.06, flipped: bool = False
) -> Axis:
    """A linear axis round the values, with as many ticks as fit without touching.

    Args:
        values: finite, at least one.
        room: length of the axis in pixels.
        pad: share of the range left free at both ends.
    """
    low, high = min(values), max(values)
    spare = (high - low) * pad if high > low else max(abs(high) * 0.05, 1e-6)
    low, high = low - spare, high + spare
    for target in range(max(2, min(7, int(room / (42 if vertical else 60)))), 0, -1):
        ticks = linear_ticks(low, high, target)
        labels = tick_labels(ticks)
        gap = room * (ticks[1] - ticks[0]) / (high - low) if len(ticks) > 1 else room
        if vertical or gap > max(map(text_width, labels), default=0) + 14:
            break
    exponent = _common_exponent(ticks)
    if exponent:
        title = f"{title} (×10{str(exponent).translate(_SUPERSCRIPT)})"
        labels = tick_labels([tick / 10.0**exponent for tick in ticks])
    return Axis(title, low, high, list(zip(ticks, labels, strict=True)), flipped=flipped)


def log_axis(title: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis round the values, all above 0."""
    low, high = min(values) / 1.1, max(values) * 1.1
    ticks = log_ticks(low, high)
    return Axis(title, low, high, [(tick, _log_label(tick)) for tick in ticks], log=True)


def linear_ticks(low: float, high: float, target: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high], about `target` of them.

    Raises:
        ValueError: the range is empty.
    """
    if not high > low:
        raise ValueError(f"no ticks between {low} and {high}")
    rough = (high - low) / max(target, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _ROUND_STEPS if factor * power >= rough * 0.8)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten inside [low, high]; the powers alone where that is too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) <= 7:
            break
    return inside


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks with equally many decimals, as few as tell them apart."""

    def exact(digits: int) -> bool:
        return all(math.isclose(tick, round(tick, digits), abs_tol=1e-12) for tick in ticks)

    decimals = next((digits for digits in range(9) if exact(digits)), 9)
    return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in ticks]


def _common_exponent(ticks: Sequence[float]) -> int:
    largest = max((abs(tick) for tick in ticks), default=0.0)
    return math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0


def _log_label(tick: float) -> str:
    if tick >= 1e-3:
        return f"{tick:g}"
    exponent = math.floor(math.log10(tick) + 1e-9)
    factor = round(tick / 10.0**exponent)
    power = f"10{str(exponent).translate(_SUPERSCRIPT)}"
    return power if factor == 1 else f"{factor}·{power}"


@dataclass(frozen=True)
class Frame:
    """The axes of a chart as drawn, and the scales to draw into it.

    Attributes:
        left, right, top, bottom: edges of the plot in pixels.
        drawing: grid, ticks and titles.
    """

    x: Scale
    y: Scale
    left: float
    right: float
    top: float
    bottom: float
    drawing: Markup


def left_margin(y: Axis) -> float:
    """Pixels that the tick labels of a vertical axis need; at least so many that charts below each other line up."""
    return max(44.0, y.label_width() + 12)


def frame(width: float, height: float, x: Axis, y: Axis, right_margin: float = 10) -> Frame:
    """Draws the axes: the vertical title lies level above its axis, the horizontal one below right."""
    left, right = left_margin(y), width - right_margin
    top, bottom = 30.0, height - 42.0
    x_scale = Scale(x.low, x.high, left, right, x.log) if not x.flipped else Scale(x.low, x.high, right, left, x.log)
    y_scale = Scale(y.low, y.high, bottom, top, y.log) if not y.flipped else Scale(y.low, y.high, top, bottom, y.log)
    parts = [text(0, FONT, y.title, kind="axis-title"), text(right, height - 4, x.title, "end", "axis-title")]
    for value, label in y.ticks:
        at = y_scale(value)
        parts += [line(left, at, right, at, "grid"), text(left - 8, at + FONT * 0.34, label, "end", "tick")]
    for value, label in x.ticks:
        at = x_scale(value)
        half = text_width(label) / 2
        anchor = "end" if at + half > width else "middle"
        parts += [line(at, bottom, at, bottom + 4, "axis"), text(at, bottom + 18, label, anchor, "tick")]
    parts.append(line(left, bottom, right, bottom, "axis"))
    return Frame(x_scale, y_scale, left, right, top, bottom, element("g", *parts))
