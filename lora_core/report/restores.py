"""What the LoRA restores: its gains by kind and strength of the degradation, beside the base and the filters."""

from dataclasses import dataclass

from lora_core.report.data import Row, StudyData
from lora_core.report.words import SPACE, counted, signed

_LEVELS = ("weak", "medium", "strong", "all")
_MINIMAL_LIMIT = 0.5
_ALIKE = 0.01
"""Points within which the whole rows say the same."""
_FEW = 6
"""Photographs below which even perfect agreement is not significant at 5 % (two-sided sign test)."""


@dataclass(frozen=True)
class LevelScore:
    """A composite in points over so many photographs; `mix` is how strong its colour is, 0 to 1."""

    composite: float
    photos: int
    mix: float


@dataclass(frozen=True)
class DegradationLine:
    """One kind of degradation.

    Attributes:
        levels: the winner's, by level; None where no photograph has it.
        rivals: the base's and the best filter's over all levels, likewise.
        detail: the winner's gains over all levels in the single metrics.
    """

    name: str
    levels: list[LevelScore | None]
    rivals: list[LevelScore | None]
    detail: str


@dataclass(frozen=True)
class Restores:
    """The table by degradation, and what it says in words."""

    heads: list[str]
    rivals: list[str]
    lines: list[DegradationLine]
    sentences: list[str]


def tell_restores(study: StudyData) -> Restores | None:
    """Which degradations the winner undoes; None where the twins' manifest does not say what was done to them."""
    rows = {(row["id"], row["operation"], row["level"]): row for row in study.degradations}
    winner = study.winner["id"]
    operations = list(dict.fromkeys(row["operation"] for row in study.degradations if row["id"] == winner))
    if not operations:
        return None
    levels = [level for level in _LEVELS if any((winner, one, level) in rows for one in operations)]
    rivals = [(study.best.result[name], title) for name, title in (("base", "base, all"), ("classical", ""))]
    limit = max(_MINIMAL_LIMIT, *(abs(row["composite"]) for row in study.degradations if row["id"] == winner))

    def score(cell: str, operation: str, level: str) -> LevelScore | None:
        row = rows.get((cell, operation, level))
        if row is None or not row["photos"]:
            return None
        return LevelScore(row["composite"], row["photos"], min(1.0, abs(row["composite"]) / limit))

    lines = [
        DegradationLine(
            name=one,
            levels=[score(winner, one, level) for level in levels],
            rivals=[score(row["id"], one, "all") for row, _ in rivals],
            detail=_detail(rows.get((winner, one, "all"))),
        )
        for one in operations
    ]
    titles = [title or f"{row['name']}, all" for row, title in rivals]
    return Restores(levels, titles, lines, _sentences(rows, winner, operations))


def _detail(row: Row | None) -> str:
    if row is None:
        return ""
    return (
        f"PSNR-Y {signed(row['gain_psnr_y'], 2)} dB, SSIM-Y {signed(row['gain_ssim_y'], 3)}, "
        f"perceptual distance {signed(-100 * row['gain_perceptual'], 1)} %"
    )


def _sentences(rows: dict[tuple[str, str, str], Row], winner: str, operations: list[str]) -> list[str]:
    """Best and worst; by level where every photograph has everything, so that the whole rows are all the same."""
    own = [row for (cell, _, _), row in rows.items() if cell == winner and row["photos"]]
    whole = [row for row in own if row["level"] == "all"]
    if len(operations) < 2 or not whole:
        return []
    alike = max(row["composite"] for row in whole) - min(row["composite"] for row in whole) < _ALIKE
    compared = [row for row in own if row["level"] != "all"] if alike else whole
    if len(compared) < 2:
        return []
    ranked = sorted(compared, key=lambda row: -row["composite"])
    best, worst = ranked[0], ranked[-1]
    verb = "does harm" if worst["composite"] < 0 else "gains least"
    sentence = f"The best LoRA gains most with {_words(best)} and {verb} with {_words(worst)}."
    if alike:
        sentence = f"These photographs have all the degradations alike, so only their strengths tell. {sentence}"
    few = min(best["photos"], worst["photos"])
    return [
        sentence,
        *([f"That rests on as few as {counted(few, 'photograph')}, so it may be chance."] if few < _FEW else []),
    ]


def _words(row: Row) -> str:
    level = "" if row["level"] == "all" else f"{row['level']} "
    points = f"{signed(row['composite'], 2)}{SPACE}points on {counted(row['photos'], 'photograph')}"
    return f"{level}{row['operation']} ({points})"
