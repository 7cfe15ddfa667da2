"""The report's charts: pure functions from data and a width to SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_core.report.axes import Axis, Frame, frame, left_margin, linear_axis, log_axis
from lora_core.report.svg import (
    FONT,
    Box,
    dot,
    line,
    path,
    picture,
    place_labels,
    spread_apart,
    text,
    text_width,
)
from lora_core.report.words import signed

_LOG_RANGE = 4.0
"""A loss that falls by more than this factor is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class RoundMark:
    """A round on the chart of rounds: its composite in points, what it says on hover, whether it is the best."""

    number: int
    composite: float
    title: str
    best: bool


@dataclass(frozen=True)
class Level:
    """A level line: its name, its value in points, and its kind: input, base or reference."""

    name: str
    value: float
    kind: str


def rounds_chart(marks: Sequence[RoundMark], levels: Sequence[Level], width: float) -> Markup:
    """Composite by round with the best so far, the input at 0 and other references as level lines.

    Args:
        marks: at least one, one of them the best.
        levels: lines to compare with; the input at 0 is always one.
    """
    height = 300.0
    levels = [Level("input", 0.0, "input"), *levels]
    values = [mark.composite for mark in marks] + [level.value for level in levels]
    y = linear_axis("composite, points above the input", values, height - 72, vertical=True, pad=0.1)
    margin = max(text_width(_level_label(level)) for level in levels) + 14
    numbers = [mark.number for mark in marks]
    x = _round_axis(numbers, width - margin - left_margin(y))
    area = frame(width, height, x, y, margin)
    parts = [area.drawing, *_level_lines(area, levels)]
    best = _running_best(marks)
    corners = [(area.x(marks[0].number), area.y(best[0]))]
    for mark, value in zip(marks[1:], best[1:], strict=True):
        corners += [(area.x(mark.number), corners[-1][1]), (area.x(mark.number), area.y(value))]
    if len(marks) > 1:
        parts.append(path(corners, "best-so-far", "best so far"))
    top = next(mark for mark in marks if mark.best)
    for mark in marks:
        kind = "mark winner" if mark is top else "mark lora"
        parts.append(dot(area.x(mark.number), area.y(mark.composite), 6 if mark is top else 4.5, kind, mark.title))
    above = area.y(top.composite) - 12
    parts.append(text(area.x(top.number), above, signed(top.composite, 2), "middle", "value halo"))
    label = f"Composite of {len(marks)} rounds; the best is round {top.number} with {signed(top.composite, 2)} points."
    return picture(width, height, label, *parts)


def _round_axis(numbers: Sequence[int], room: float) -> Axis:
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (numbers[-1] // step + 1) * 30 <= room)
    ticks = [(float(number), str(number)) for number in range(numbers[0], numbers[-1] + 1) if number % every == 0]
    return Axis("round", numbers[0] - 0.5, numbers[-1] + 0.5, ticks)


def _running_best(marks: Sequence[RoundMark]) -> list[float]:
    return [max(mark.composite for mark in marks[: index + 1]) for index in range(len(marks))]


def _level_label(level: Level) -> str:
    return f"{level.name} {signed(level.value, 2)}"


def _level_lines(area: Frame, levels: Sequence[Level]) -> list[Markup]:
    heights = [area.y(level.value) for level in levels]
    labels = spread_apart(heights, FONT * 1.25, area.top, area.bottom)
    parts = []
    for level, height, label in zip(levels, heights, labels, strict=True):
        parts.append(line(area.left, height, area.right, height, f"level {level.kind}"))
        parts.append(text(area.right + 8, label + FONT * 0.34, _level_label(level), kind="mark-label"))
    return parts


@dataclass(frozen=True)
class FrontMark:
    """A candidate or reference of the fidelity–perception chart.

    Attributes:
        kind: lora, base, reference or input.
        label: written beside the mark; "" for none.
        front: nothing beats it in both fidelity and distance.
        reachable: False for the autoencoder's round trip of the original, which no restoration is.
    """

    fidelity: float
    distance: float
    kind: str
    title: str
    label: str = ""
    winner: bool = False
    front: bool = False
    reachable: bool = True


def in_view(marks: Sequence[FrontMark]) -> list[FrontMark]:
    """The labelled marks, the front, and what lies near them: a few far failures must not squeeze the rest."""
    kept = [mark for mark in marks if mark.label or mark.winner or mark.front]
    low, high = min(mark.fidelity for mark in kept), max(mark.fidelity for mark in kept)
    near, far = min(mark.distance for mark in kept), max(mark.distance for mark in kept)
    left, below = low - 0.4 * max(high - low, 0.5), far + 0.4 * max(far - near, 0.01)
    return [mark for mark in marks if mark.fidelity >= left and mark.distance <= below]


def front_chart(marks: Sequence[FrontMark], perceptual_name: str, width: float) -> Markup:
    """Fidelity to the right, perceptual likeness upwards, the Pareto front through the best of both."""
    height = min(460.0, width * 0.95)
    shown = in_view(marks)
    framing = [mark for mark in shown if mark.reachable or not _stretches(mark, shown)]
    y = linear_axis(
        f"{perceptual_name} distance, lower (up) is better",
        [mark.distance for mark in framing],
        height - 72,
        vertical=True,
        pad=0.09,
        flipped=True,
    )
    room = width - left_margin(y) - 10
    x = linear_axis(
        "PSNR-Y in dB, right is better", [mark.fidelity for mark in framing], room, vertical=False, pad=0.09
    )
    area = frame(width, height, x, y)
    front = sorted((mark for mark in shown if mark.front), key=lambda mark: (mark.fidelity, -mark.distance))
    parts = [area.drawing, path([(area.x(mark.fidelity), area.y(mark.distance)) for mark in front], "front", "front")]
    for mark in sorted(shown, key=lambda mark: (bool(mark.label), mark.winner)):
        kind = "winner" if mark.winner else mark.kind if mark.reachable else "ceiling"
        radius = 7.0 if mark.winner else 5.5 if mark.label else 3.2
        parts.append(dot(area.x(mark.fidelity), area.y(mark.distance), radius, f"mark {kind}", mark.title))
    named = sorted((mark for mark in shown if mark.label), key=lambda mark: not mark.winner)
    anchors = [(area.x(mark.fidelity), area.y(mark.distance), _front_label(mark, mark in framing)) for mark in named]
    every = [(area.x(mark.fidelity), area.y(mark.distance)) for mark in shown]
    edges = Box(area.left + 2, area.top - 8, area.right, area.bottom - 4)
    for (x_at, y_at, label), place in zip(anchors, place_labels(anchors, every, edges), strict=True):
        if place.far:
            parts.append(_leader(x_at, y_at, place.box))
        parts.append(text(place.x, place.y, label, place.anchor, "mark-label halo"))
    label = f"PSNR-Y against {perceptual_name} distance of {len(shown)} candidates and references."
    return picture(width, height, label, *parts)


def _stretches(mark: FrontMark, shown: Sequence[FrontMark]) -> bool:
    """Whether a frame that holds the mark would squeeze the reachable ones into less than two thirds of it."""
    others = [other for other in shown if other.reachable]
    fidelities, distances = [other.fidelity for other in others], [other.distance for other in others]
    beyond = (mark.fidelity - max(fidelities), min(distances) - mark.distance)
    spans = (max(fidelities) - min(fidelities), max(distances) - min(distances))
    return any(over > span / 2 for over, span in zip(beyond, spans, strict=True))


def _front_label(mark: FrontMark, framed: bool) -> str:
    """A mark outside the frame stands at its edge and says where it belongs."""
    return mark.label if framed else f"{mark.label} (beyond: {mark.fidelity:.1f} dB, {mark.distance:.3f})"


def _leader(x: float, y: float, box: Box) -> Markup:
    end_x, end_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    return line(x, y, end_x, end_y, "leader")


@dataclass(frozen=True)
class Series:
    """A curve by images seen: the points themselves and a smoothed line through them, equally long."""

    name: str
    images: Sequence[float]
    raw: Sequence[float]
    smooth: Sequence[float]
    best: bool = False


def spans_widely(series: Sequence[Series]) -> bool:
    """Whether the smoothed values differ by such a factor that a linear axis would hide the lower ones."""
    values = [value for one in series for value in one.smooth]
    return min(min(one.raw) for one in series) > 0 and max(values) / min(values) > _LOG_RANGE


def curves_chart(
    title: str,
    series: Sequence[Series],
    width: float,
    *,
    height: float = 280.0,
    log: bool = False,
    frame_of: Sequence[Series] = (),
) -> Markup:
    """Curves by images seen; the best round's stands out, up to five are named at their right end.

    The unsmoothed points are a faint line behind the best round's curve, and behind each where there are two at most.

    Args:
        series: at least one, each with at least one point.
        log: logarithmic vertical axis; every value is above 0.
        frame_of: series whose range the axes have, so that several charts can be compared; empty: the drawn ones.
    """
    raw = [one for one in series if one.best or len(series) <= 2]
    values = [value for one in frame_of or series for value in (one.raw if frame_of or one in raw else one.smooth)]
    y = log_axis(f"{title}, log scale", values) if log else linear_axis(title, values, height - 72, vertical=True)
    named = [one for one in series if len(series) <= 5 or one.best] if len(series) > 1 else []
    margin = max((text_width(one.name, strong=one.best) for one in named), default=0) + 14
    last = max(one.images[-1] for one in frame_of or series)
    x = linear_axis("images seen", [0.0, last], width - margin - left_margin(y), vertical=False, pad=0.0)
    area = frame(width, height, x, y, margin)
    parts = [area.drawing]
    for one in sorted(series, key=lambda one: one.best):
        kind = "curve best" if one.best else "curve many" if len(series) > 5 else "curve"
        if one in raw:
            parts.append(path(_points(area, one.images, one.raw), f"{kind} raw"))
        parts.append(path(_points(area, one.images, one.smooth), kind, one.name))
    ends = [area.y(one.smooth[-1]) for one in named]
    for one, end in zip(named, spread_apart(ends, FONT * 1.2, area.top, area.bottom - 4), strict=True):
        kind = "mark-label strong" if one.best else "mark-label"
        parts.append(text(area.right + 8, end + FONT * 0.34, one.name, kind=kind))
    return picture(width, height, f"{title} by images seen, {len(series)} rounds.", *parts)


def _points(area: Frame, images: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    return [(area.x(at), area.y(value)) for at, value in zip(images, values, strict=True)]
