"""A candidate in numbers beside what it must beat, as a table for a form, a terminal and a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_core.promotion.contest import contest_in_words
from lora_core.promotion.standing import Standing
from lora_core.report.words import number, signed
from lora_core.rounds import result_in_words

_ROW = ("psnr_y", "ssim_y", "perceptual")


@dataclass(frozen=True)
class Line:
    """One candidate or rival: points above the input, PSNR-Y in dB, SSIM-Y and the perceptual distance."""

    name: str
    cells: tuple[str, str, str, str]


def lines(standing: Standing) -> list[Line]:
    """The candidate, the champion, and what the candidate's round holds it against."""
    result = standing.candidate.result
    found = [_line("Candidate", result["winner"], result["winner"]["composite"])]
    if standing.champion is not None and not standing.is_champion:
        settings = standing.champion.settings
        found.append(_line("Champion", settings["scores"], settings["composite"]))
    names = {"input": "Degraded input", "base": "Base without LoRA", "classical": "Best filter"}
    return found + [_line(name, result[part], result[part]["composite"]) for part, name in names.items()]


def headings(standing: Standing) -> tuple[str, ...]:
    """Of the columns of `lines`."""
    return "", "points ↑", "PSNR-Y ↑", "SSIM-Y ↑", f"{standing.candidate.result['perceptual']['name']} ↓"


def question(standing: Standing, report: str) -> str:
    """What a person is asked, as Markdown; short, for Prefect shows it in a small window above the form.

    Args:
        standing: the candidate.
        report: address or path of the study's report.
    """
    candidate = standing.candidate
    table = [headings(standing), ("---", *["---:"] * 4), *((line.name, *line.cells) for line in lines(standing))]
    where = f"[Report with pictures]({report})" if "://" in report else f"Report with pictures: `{report}`"
    parts = [
        f"**Shall round {candidate.round} of {candidate.run.name} become the champion?** {where}",
        contest_in_words(standing.contest),
        "\n".join("| " + " | ".join(row) + " |" for row in table),
    ]
    return "\n\n".join(parts)


def details(standing: Standing) -> str:
    """What there is to know beyond the question, as Markdown."""
    settings = standing.candidate.settings
    lora = f"LoRA of epoch {settings['epoch']}, sha256 `{settings['lora_digest']}`."
    return f"{result_in_words(standing.candidate.result)}\n\n{lora}"


def plain(standing: Standing) -> str:
    """The same for a terminal."""
    rows = [headings(standing), *((line.name, *line.cells) for line in lines(standing))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    table = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
    return "\n".join(table if standing.is_champion else [*table, "", contest_in_words(standing.contest)])


def _line(name: str, row: dict[str, Any], composite: float) -> Line:
    psnr, ssim, distance = (row[key] for key in _ROW)
    return Line(name, (signed(composite, 2), number(psnr, 2), number(ssim, 3), number(distance, 3)))


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *cells = row
    return [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
