"""The tables of the page: scores of candidates and references, and the rounds with their settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_core.experiment import value_at
from lora_core.report.data import RoundData, Row, StudyData
from lora_core.report.words import advice_phrase, number, plain, signed

_TOP = 10
"""LoRA candidates in the short table."""


@dataclass(frozen=True)
class Column:
    """A column of a score table.

    Attributes:
        arrow: "↑" where higher is better, "↓" where lower is, "" where neither.
        says: the tooltip: quantity, unit, convention.
    """

    key: str
    title: str
    arrow: str
    says: str
    show: Callable[[Any], str]


@dataclass(frozen=True)
class Cell:
    """A value as shown and as sorted (empty: always last)."""

    shown: str
    sort: str


@dataclass(frozen=True)
class Line:
    """A row of a score table; `kind` is winner, lora, base, reference, input or ceiling."""

    kind: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Columns and lines, best composite first."""

    columns: list[Column]
    lines: list[Line]


def short_table(study: StudyData) -> Table:
    """The references, the best cell of the bare base, and the best LoRA candidates of the best round."""
    rows = [row for row in study.scores if row["kind"] == "reference"]
    rows += [row for row in study.scores if row["kind"] == "base"][:1]
    rows += [row for row in study.scores if row["kind"] == "lora"][:_TOP]
    rows.sort(key=_rank)
    columns = _columns(study.best.winner["perceptual_name"])
    keys = ("name", "composite", "psnr_y", "ssim_y", "perceptual", "strength", "start_noise", "steps", "detail_return")
    return _table([columns[key] for key in keys], rows, study)


def full_table(study: StudyData) -> Table:
    """Every row of the best round's score table with every number."""
    return _table(list(_columns(study.best.winner["perceptual_name"]).values()), sorted(study.scores, key=_rank), study)


def _rank(row: Row) -> float:
    value = row["composite"]
    return float("inf") if value is None or value != value else -value


def _table(columns: list[Column], rows: list[Row], study: StudyData) -> Table:
    lines = [Line(_kind(row, study), [_cell(row[column.key], column) for column in columns]) for row in rows]
    return Table(columns, lines)


def _cell(value: Any, column: Column) -> Cell:
    absent = value is None or value != value
    return Cell(column.show(value), "" if absent else str(value))


def _kind(row: Row, study: StudyData) -> str:
    if row["id"] == study.best.winner["id"]:
        return "winner"
    if row["kind"] == "reference":
        return {"input": "input", "autoencoder": "ceiling"}.get(row["name"], "reference")
    return str(row["kind"])


def _decimals(count: int) -> Callable[[Any], str]:
    return lambda value: number(value, count)


def _gain(count: int) -> Callable[[Any], str]:
    return lambda value: signed(value, count)


def _share(value: float | None) -> str:
    return signed(None if value is None else value * 100, 1)


def _columns(perceptual: str) -> dict[str, Column]:
    colours = "of red, green and blue"
    columns = [
        Column("name", "Candidate", "", "Checkpoint of the LoRA, the bare base model, or a reference", str),
        Column("composite", "Composite", "↑", "Weighted gains over the input, points; the input has 0", _gain(2)),
        Column("psnr_y", "PSNR-Y, dB", "↑", "Peak signal-to-noise ratio of the luma; higher is better", _decimals(2)),
        Column(
            "psnr_rgb", "PSNR-RGB, dB", "↑", f"Peak signal-to-noise ratio {colours}; higher is better", _decimals(2)
        ),
        Column("ssim_y", "SSIM-Y", "↑", "Structural similarity of the luma, at most 1; higher is better", _decimals(4)),
        Column(
            "ssim_rgb", "SSIM-RGB", "↑", f"Structural similarity {colours}, at most 1; higher is better", _decimals(4)
        ),
        Column("perceptual", perceptual, "↓", f"Distance by {perceptual}, no unit; lower is better", _decimals(4)),
        Column("gain_psnr_y", "Δ PSNR-Y, dB", "↑", "PSNR-Y above the input", _gain(2)),
        Column("gain_ssim_y", "Δ SSIM-Y", "↑", "SSIM-Y above the input", _gain(4)),
        Column("gain_perceptual", "Δ perceptual, %", "↑", "Distance below the input's, per cent of it", _share),
        Column("strength", "Strength", "", "Denoising strength of img2img, 0 to 1", plain),
        Column("start_noise", "Start noise", "", "Share of the start noise: 0 none, 1 as web UIs do it", plain),
        Column("steps", "Steps", "", "Denoiser evaluations for each picture", plain),
        Column("num_inference_steps", "UI steps", "", "Sampling steps to set in a web UI (num_inference_steps)", plain),
        Column("start_timestep", "Start t", "", "Timestep of the scheduler at which the restoration starts", plain),
        Column("detail_return", "Detail return", "", "Share of what the autoencoder dropped that is put back", plain),
    ]
    return {column.key: column for column in columns}


@dataclass(frozen=True)
class RoundLine:
    """A round: its settings, its result, and why.

    Attributes:
        settings: (value, whether it differs from the round before) for each changed key.
        result: PSNR-Y in dB, SSIM-Y, perceptual distance in per cent, composite in points, all against the input.
        found: the winner's epoch, strength, start noise, steps and detail return.
        findings: (what a diagnosis says, its advice as (key, range) pairs).
    """

    number: int
    best: bool
    pruned: bool
    settings: list[tuple[str, bool]]
    result: list[str]
    composite: str
    found: list[str]
    reason: str
    findings: list[tuple[str, list[tuple[str, str]]]]
    open: bool


def round_lines(study: StudyData) -> list[RoundLine]:
    """The finished rounds in order; the notes of the best and the last are open, all where there are few."""
    few = len(study.rounds) <= 3
    lines = []
    before: Sequence[Any] | None = None
    for one in study.rounds:
        values = [value_at(one.experiment, key) for key in study.changed_keys]
        changed = [before is not None and value != before[at] for at, value in enumerate(values)]
        best = one is study.best
        settings = [(plain(value), differs) for value, differs in zip(values, changed, strict=True)]
        lines.append(_round_line(one, settings, best, few or best or one is study.rounds[-1]))
        before = values
    return lines


def _round_line(one: RoundData, settings: list[tuple[str, bool]], best: bool, opened: bool) -> RoundLine:
    winner = one.winner
    return RoundLine(
        number=one.number,
        best=best,
        pruned=one.result["pruned"],
        settings=settings,
        result=[
            signed(winner["gain_psnr_y"], 2),
            signed(winner["gain_ssim_y"], 3),
            signed(-100 * winner["gain_perceptual"], 1),
            signed(winner["composite"], 2),
        ],
        composite=signed(winner["composite"], 2),
        found=[plain(winner[key]) for key in ("epoch", "strength", "start_noise", "steps", "detail_return")],
        reason=one.result["reason"],
        findings=[(found["says"], advice_phrase(found["advice"])) for found in one.result["diagnosis"]],
        open=opened,
    )
