"""Names and texts of other people's in Markdown: shown as they are, never as markup or HTML."""

import re

_ACTIVE = re.compile(r"([\\`<\[|])")


def code(text: str) -> str:
    """A code span on one line, whatever the text contains."""
    line = " ".join(text.split())
    fence = _longer_than(line)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def escaped(text: str) -> str:
    """Running text on one line, without links, HTML, code or cells of a table."""
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def fenced(text: str, language: str) -> str:
    """A block of code that the text cannot end."""
    fence = max("```", _longer_than(text), key=len)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longer_than(text: str) -> str:
    return "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
