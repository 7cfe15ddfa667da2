"""The charts on the page of a base model: curves by images seen, with levels to compare with and halvings marked."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_core.pretraining.page_data import PretrainingData, Row
from lora_core.report.axes import Frame, frame, left_margin, linear_axis, log_axis
from lora_core.report.curves import smooth_line, thinned
from lora_core.report.drawings import NARROW, WIDE, Drawing
from lora_core.report.svg import FONT, line, path, picture, spread_apart, text, text_width

_POINTS = 300
_LOG_RANGE = 10.0
"""Losses that differ by more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Line:
    """A curve: its name, images seen, values, and class in the style sheet."""

    name: str
    images: Sequence[float]
    values: Sequence[float]
    kind: str = "curve"


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: quantity and unit.
        levels: (name, value) of dashed level lines.
        halvings: images seen at which the learning rate was halved.
        linear: never on a logarithmic axis.
    """

    title: str
    lines: Sequence[Line]
    levels: Sequence[tuple[str, float]] = ()
    halvings: Sequence[float] = ()
    height: float = 280.0
    linear: bool = False


def draw(chart: Chart) -> Drawing | None:
    """The chart for both widths of the page; None where no curve has two points."""
    lines = [one for one in chart.lines if len(one.images) > 1]
    if not lines:
        return None
    return Drawing(_draw(chart, lines, WIDE), _draw(chart, lines, NARROW))


def _draw(chart: Chart, lines: Sequence[Line], width: float) -> Markup:
    values = [value for one in lines for value in one.values] + [value for _, value in chart.levels]
    log = not chart.linear and min(values) > 0 and max(values) / min(values) > _LOG_RANGE
    y = (
        log_axis(f"{chart.title}, log scale", values)
        if log
        else linear_axis(chart.title, values, chart.height - 72, vertical=True)
    )
    ends = [(one.name, one.values[-1], one.kind) for one in lines] + [(*level, "level") for level in chart.levels]
    margin = max(text_width(name, strong="best" in kind) for name, _, kind in ends) + 14
    last = max(one.images[-1] for one in lines)
    x = linear_axis("images seen", [0.0, last], width - margin - left_margin(y), vertical=False, pad=0.0)
    area = frame(width, chart.height, x, y, margin)
    parts = [area.drawing]
    parts += [line(area.x(at), area.top, area.x(at), area.bottom, "halving") for at in chart.halvings]
    parts += [line(area.left, area.y(value), area.right, area.y(value), "level") for _, value in chart.levels]
    for one in lines:
        points = [(area.x(at), area.y(value)) for at, value in zip(one.images, one.values, strict=True)]
        parts.append(path(points, one.kind, one.name))
    label = f"{chart.title} by images seen: {', '.join(name for name, _, _ in ends)}."
    return picture(width, chart.height, label, *parts, *_names(area, ends))


def _names(area: Frame, ends: Sequence[tuple[str, float, str]]) -> list[Markup]:
    heights = spread_apart([area.y(value) for _, value, _ in ends], FONT * 1.25, area.top, area.bottom - 4)
    return [
        text(area.right + 8, at + FONT * 0.34, name, kind="mark-label strong" if "best" in kind else "mark-label")
        for (name, _, kind), at in zip(ends, heights, strict=True)
    ]


def draw_loss(data: PretrainingData) -> Drawing | None:
    """Loss of the UNet on unseen and on trained photographs, the references and the halvings."""
    rows = data.unet.validation
    lines = [_line("unseen", rows, "loss", "curve best"), _line("trained", rows, "training_loss")]
    if not lines[1].images and data.unet.log:
        lines[1] = _smoothed("training step", data.unet.log)
    named = (("answering the mean", "mean_predictor"), ("before training", "base"))
    levels = [(name, level) for name, key in named if (level := data.reference(key)) is not None]
    return draw(Chart("loss (mean squared error)", lines, levels, _halvings(data)))


def _halvings(data: PretrainingData) -> list[float]:
    return [data.unet.validation[place]["images"] for place in data.plateau.halvings]


def draw_rate(data: PretrainingData) -> Drawing | None:
    """The learning rate of the UNet, schedule and halvings together."""
    images, rates = _columns(data.unet.log, "learning_rate")
    if len(images) > 1:
        images, rates = (column.tolist() for column in thinned(images, rates, _POINTS))
    return draw(
        Chart("learning rate", [Line("rate", images, rates)], halvings=_halvings(data), height=190.0, linear=True)
    )


def draw_timesteps(data: PretrainingData) -> Drawing | None:
    """The validation loss at each timestep of the grid; the lowest timestep is where restoration starts."""
    rows = data.unet.validation
    timesteps = sorted({int(timestep) for row in rows for timestep in row.get("by_timestep", {})})
    lines = []
    for timestep in timesteps:
        kept = [row for row in rows if str(timestep) in row.get("by_timestep", {})]
        values = [row["by_timestep"][str(timestep)] for row in kept]
        lines.append(Line(f"t = {timestep}", [row["images"] for row in kept], values))
    return draw(Chart("loss by timestep (mean squared error)", lines, height=320.0))


def draw_autoencoder(data: PretrainingData) -> Drawing | None:
    """PSNR of photographs through the autoencoder and back."""
    rows = data.autoencoder.validation
    return draw(
        Chart(
            "PSNR-RGB of the round trip, dB",
            [_line("unseen", rows, "psnr_rgb", "curve best")],
            height=240.0,
            linear=True,
        )
    )


def _line(name: str, rows: Sequence[Row], key: str, kind: str = "curve") -> Line:
    return Line(name, *_columns(rows, key), kind)


def _smoothed(name: str, rows: Sequence[Row]) -> Line:
    images, values = thinned(*_columns(rows, "loss"), _POINTS)
    return Line(name, images.tolist(), smooth_line(images, values, 0.03).tolist())


def _columns(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    kept = [row for row in rows if row.get(key) is not None]
    return [row["images"] for row in kept], [row[key] for row in kept]
