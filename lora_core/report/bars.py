"""Charts along one axis: composites with their intervals, and the settings that are left in the race."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_core.report.axes import Scale, frame, left_margin, linear_axis
from lora_core.report.svg import FONT, dot, element, line, path, picture, text, text_width
from lora_core.report.words import counted, signed

_LINE, _GAP = FONT * 1.35, 26.0


@dataclass(frozen=True)
class Interval:
    """A composite with its 95 % interval, in points.

    Attributes:
        label: written above the bar, on as many lines as it needs.
        kind: winner, lora, base or reference.
    """

    label: str
    kind: str
    value: float
    low: float
    high: float
    title: str


def intervals_chart(intervals: Sequence[Interval], width: float) -> Markup:
    """A bar for each candidate on one axis of points, the input being the line at 0.

    The names stand left of the bars where there is room, above them where there is not.

    Args:
        intervals: at least one, in the order in which they are drawn.
    """
    beside = max(text_width(one.label) for one in intervals) + 24
    left = beside if beside < width / 2 else 4.0
    values = [0.0, *(end for one in intervals for end in (one.low, one.high, one.value))]
    axis = linear_axis("composite, points above the input", values, width - left - 60, vertical=False)
    scale = Scale(axis.low, axis.high, left, width - 60)
    labels = [_wrapped(one.label, 0.9 * width) if left < beside else [one.label] for one in intervals]
    heights = [_LINE * len(lines) + _GAP if left < beside else _GAP for lines in labels]
    bottom = sum(heights) + 8
    parts = [line(scale(value), 0, scale(value), bottom, "grid") for value, _ in axis.ticks]
    parts.append(line(scale(0), 0, scale(0), bottom, "level input"))
    top = 0.0
    for one, lines, height in zip(intervals, labels, heights, strict=True):
        y = top + height - _GAP / 2
        rise = _LINE * len(lines) + 10 if left < beside else FONT * 0.66
        parts += [text(4, y - rise + FONT + _LINE * at, part, kind="mark-label halo") for at, part in enumerate(lines)]
        parts += _bar(one, scale, y)
        top += height
    for value, label in axis.ticks:
        anchor = "start" if scale(value) < text_width(label) / 2 else "middle"
        parts.append(text(scale(value), bottom + 18, label, anchor, "tick"))
    parts.append(text(width, bottom + 40, axis.title, "end", "axis-title"))
    best = intervals[0]
    label = (
        f"Composites of {len(intervals)} candidates with their 95 % intervals; the first has {signed(best.value, 2)}."
    )
    return picture(width, bottom + 46, label, *parts)


def _bar(one: Interval, scale: Scale, y: float) -> list[Markup]:
    kind = f"whisker {one.kind}"
    return [
        line(scale(one.low), y, scale(one.high), y, kind),
        *(line(scale(end), y - 4, scale(end), y + 4, kind) for end in (one.low, one.high)),
        dot(scale(one.value), y, 5, f"mark {one.kind}", one.title),
        text(scale(max(one.high, one.value)) + 8, y + FONT * 0.34, signed(one.value, 2), kind="mark-label halo"),
    ]


def _wrapped(label: str, room: float) -> list[str]:
    lines = [""]
    for word in label.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def race_chart(steps: Sequence[tuple[int, int]], photos: int, width: float) -> Markup:
    """The settings that are left against the photographs restored; the area is what the race cost.

    Args:
        steps: (photographs up to which, settings that restored them), rising; the last reaches `photos`.
        photos: the test photographs.
    """
    height = 250.0
    most = steps[0][1]
    y = linear_axis("settings in the race", [0.0, 1.1 * most], height - 72, vertical=True, pad=0.0)
    x = linear_axis("photographs", [0.0, float(photos)], width - left_margin(y) - 50, vertical=False, pad=0.0)
    area = frame(width, height, x, y, 40)
    corners, start = [(area.x(0), area.y(0))], 0
    for end, cells in steps:
        corners += [(area.x(start), area.y(cells)), (area.x(end), area.y(cells))]
        start = end
    corners.append((area.x(photos), area.y(0)))
    full = [(area.x(0), area.y(most)), (area.x(photos), area.y(most)), (area.x(photos), area.y(0))]
    parts = [area.drawing, path(full, "exhaustive", "every setting on every photograph"), path(corners, "raced")]
    start, taken = 0, -1e9
    for end, cells in steps:
        at = area.x((start + end) / 2)
        start = end
        if at - taken > 34:  # numbers of short stages would cover each other
            parts.append(text(at, area.y(cells) - 7, f"{cells:,}", "middle", "value halo"))
            taken = at
    label = f"{counted(most, 'setting')} at the start, {counted(steps[-1][1], 'setting')} on all {photos} photographs."
    return picture(width, height, label, element("g", *parts))
