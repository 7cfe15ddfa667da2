"""The heat map: a table of composites over two settings, with what the race dropped as dropped."""

from dataclasses import dataclass

from markupsafe import Markup

from lora_core.report.svg import FONT, element, picture, text, text_width
from lora_core.report.words import signed

_TALL, _TOP = 34.0, 48.0
_KEY_STEPS, _KEY_WIDTH = 10, 9.0


@dataclass(frozen=True)
class HeatCell:
    """One setting: its composite in points, or the photographs after which it was dropped, or neither.

    Attributes:
        title: hover text.
    """

    value: float | None
    dropped_after: int | None
    title: str

    @property
    def shown(self) -> str:
        """What stands in the cell."""
        if self.dropped_after is not None:
            return f"out · {self.dropped_after}"
        return "–" if self.value is None else signed(self.value, 2)


@dataclass(frozen=True)
class HeatMap:
    """A table of composites.

    Attributes:
        down, across: what the rows and the columns are.
        rows, columns: their values.
        cells: by row and column.
        marked: (row, column) of the winner, where it is in this table.
        limit: the value, up and down, at which the colour is full; above 0.
    """

    down: str
    across: str
    rows: list[str]
    columns: list[str]
    cells: list[list[HeatCell]]
    marked: tuple[int, int] | None
    limit: float


def heat_map(heat: HeatMap, width: float) -> Markup:
    """Coloured from worse than the input over neutral (0) to better, with the numbers.

    The chart is wider than `width` where the numbers would not fit otherwise.
    """
    left = max(text_width(name) for name in (*heat.rows, heat.down)) + 12
    names = [*heat.columns, *(cell.shown for row in heat.cells for cell in row)]
    needed = max(map(text_width, names)) + 10
    step = min(96.0, max(needed, (width - left) / len(heat.columns)))
    legend = _legend(heat)
    total = max(left + step * len(heat.columns), left + 300, text_width(legend) + 4, left + text_width(heat.across))
    parts = [text(left - 10, 40, heat.down, "end", "axis-title")]
    parts.append(text(left, FONT, heat.across, kind="axis-title"))
    parts += [text(left + step * (at + 0.5), 40, name, "middle", "tick") for at, name in enumerate(heat.columns)]
    for at, (name, row) in enumerate(zip(heat.rows, heat.cells, strict=True)):
        y = _TOP + _TALL * at
        parts.append(text(left - 10, y + _TALL / 2 + FONT * 0.34, name, "end", "tick"))
        parts += [_cell(left + step * column, y, step, cell, heat.limit) for column, cell in enumerate(row)]
    if heat.marked:
        parts.append(_frame(left + step * heat.marked[1], _TOP + _TALL * heat.marked[0], step))
    bottom = _TOP + _TALL * len(heat.rows) + 18
    parts.append(_colour_key(left, bottom, heat.limit))
    if legend:
        parts.append(text(0, bottom + 66, legend, kind="tick"))
    label = f"Composite by {heat.down} and {heat.across}, {len(heat.rows)} by {len(heat.columns)}."
    return picture(total, bottom + (74 if legend else 54), label, *parts)


def _legend(heat: HeatMap) -> str:
    dropped = any(cell.dropped_after is not None for row in heat.cells for cell in row)
    return "out · n: left the race after n photographs" if dropped else ""


def _cell(x: float, y: float, width: float, cell: HeatCell, limit: float) -> Markup:
    label = text(x + width / 2, y + _TALL / 2 + FONT * 0.34, cell.shown, "middle", _text_kind(cell))
    if cell.value is None and cell.dropped_after is None:
        return element("g", element("title", cell.title), label)
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": _TALL - 2, "rx": 4}
    if cell.value is None or cell.dropped_after is not None:
        return element("g", element("title", cell.title), element("rect", **box, class_="dropped"), label)
    share = min(1.0, abs(cell.value) / limit)
    kind = "cell better" if cell.value > 0 else "cell worse"
    return element(
        "g", element("title", cell.title), element("rect", **box, class_=kind, style=f"--mix:{share:.0%}"), label
    )


def _text_kind(cell: HeatCell) -> str:
    return "tick" if cell.value is None or cell.dropped_after is not None else "cell-number"


def _frame(x: float, y: float, width: float) -> Markup:
    return element("rect", x=x + 1.5, y=y + 1.5, width=width - 3, height=_TALL - 3, rx=4, class_="marked")


def _colour_key(left: float, top: float, limit: float) -> Markup:
    parts = []
    for index in range(-_KEY_STEPS, _KEY_STEPS + 1):
        kind = "cell better" if index > 0 else "cell worse"
        x = left + (index + _KEY_STEPS) * _KEY_WIDTH + 1
        mix = f"--mix:{abs(index) / _KEY_STEPS:.0%}"
        parts.append(element("rect", x=x, y=top, width=_KEY_WIDTH, height=8, class_=kind, style=mix))
    middle, right = left + (_KEY_STEPS + 0.5) * _KEY_WIDTH + 1, left + (2 * _KEY_STEPS + 1) * _KEY_WIDTH + 1
    parts += [
        text(left + 1, top + 24, f"≤ {signed(-limit, 1)}", kind="tick"),
        text(middle, top + 24, "0 = input", "middle", "tick"),
        text(right, top + 24, f"≥ {signed(limit, 1)}", "end", "tick"),
        text(left + 1, top + 44, "composite, points above the input", kind="axis-title"),
    ]
    return element("g", *parts)
