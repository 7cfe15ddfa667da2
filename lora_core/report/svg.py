"""SVG as text: escaped elements, the width of a label, and labels that do not cover each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

FONT = 12.5
"""Size of a chart's text in pixels; the page's style sheet sets the same."""
_STRONG = 1.22  # how much wider strong text is
_NARROW, _WIDE = frozenset("iljtfr.,:;'|!()[] -"), frozenset("mwMW@%+−")


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element, with numbers to a hundredth of a pixel; `class_` becomes class, `text_anchor` text-anchor.

    Args:
        children: text is escaped, `Markup` is not.
        attributes: those that are None are left out.
    """
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{text}>{Markup('').join(children)}</{name}>")


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def picture(width: float, height: float, label: str, *children: str) -> Markup:
    """The outer element of a chart, `label` being what a screen reader says."""
    view = f"0 0 {_attribute(float(width))} {_attribute(float(height))}"
    return element("svg", *children, viewBox=view, width=width, height=height, role="img", aria_label=label)


def text(x: float, y: float, content: str, anchor: str = "start", kind: str | None = None) -> Markup:
    """A line of text; `anchor` is start, middle or end."""
    return element("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=kind)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind)


def path(points: Sequence[tuple[float, float]], kind: str, title: str | None = None) -> Markup:
    """A line through the points."""
    steps = "L".join(f"{_attribute(float(x))},{_attribute(float(y))}" for x, y in points)
    return element("path", *([element("title", title)] if title else []), d=f"M{steps}", class_=kind)


def dot(x: float, y: float, radius: float, kind: str, title: str) -> Markup:
    """A point that says what it is on hover."""
    return element("circle", element("title", title), cx=float(x), cy=float(y), r=float(radius), class_=kind)


def text_width(content: str, size: float = FONT, *, strong: bool = False) -> float:
    """Pixels, a little generous: the page uses the reader's own sans serif."""
    units = sum(0.34 if sign in _NARROW else 0.9 if sign in _WIDE else 0.58 for sign in content)
    return units * size * (_STRONG if strong else 1)


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near to the wanted ones as fits, at least `gap` apart, inside [low, high] where there is room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(wanted[index], placed[-1] + gap if placed else low))
    ceiling = high
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], ceiling)
        ceiling = placed[place] - gap
    result = [0.0] * len(wanted)
    for index, position in zip(order, placed, strict=True):
        result[index] = position
    return result


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Shared area, square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def outside(self, other: "Box") -> float:
        """Area of this box that lies outside the other, square pixels."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(other)


@dataclass(frozen=True)
class Label:
    """Where a label is written, and the box that it covers."""

    x: float
    y: float
    anchor: str
    box: Box
    far: bool


def place_labels(
    anchors: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]], bounds: Box
) -> list[Label]:
    """A place beside each anchor where the label covers no other label and as few points as possible.

    Args:
        anchors: (x, y, text) of the marks to be labelled, most important first.
        points: every mark of the chart.
        bounds: what a label may not leave.
    """
    placed: list[Label] = []
    blocks = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    own = [Box(x - 6, y - 6, x + 6, y + 6) for x, y, _ in anchors]
    for x, y, content in anchors:
        options = _label_options(x, y, content)
        costs = [
            40 * option.box.outside(bounds)
            + 20 * sum(option.box.overlap(other.box) for other in placed)
            + 4 * sum(option.box.overlap(mark) for mark in own)
            + sum(option.box.overlap(block) for block in blocks)
            + order
            for order, option in enumerate(options)
        ]
        placed.append(options[costs.index(min(costs))])
    return placed


def _label_options(x: float, y: float, content: str) -> list[Label]:
    width, rise, fall = text_width(content), FONT * 0.8, FONT * 0.28
    options = []
    for reach in (10.0, 24.0, 40.0, 58.0):
        for right, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
            slant = 0.8 if right and down else 1.0
            left = x + right * reach * slant - (0 if right > 0 else width if right < 0 else width / 2)
            base = y + FONT * 0.34 + down * reach * slant * 1.15
            box = Box(left, base - rise, left + width, base + fall)
            start = {1: "start", -1: "end", 0: "middle"}[right]
            at = left + {1: 0.0, -1: width, 0: width / 2}[right]
            options.append(Label(at, base, start, box, reach > 10))
    return options
