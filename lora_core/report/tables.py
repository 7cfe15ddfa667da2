"""The tables of the page: scores of candidates and references, and the rounds with their settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_core.experiment import value_at
from lora_core.judging import Judgement, human_scores
from lora_core.metrics.registry import DIAGNOSTICS, METRICS, Metric
from lora_core.report.data import RoundData, Row, StudyData, changed_keys
from lora_core.report.words import MISSING, SETTING_NAMES, advice_phrase, number, plain, preference, signed

_TOP = 10
"""LoRA candidates in the short table."""


@dataclass(frozen=True)
class Column:
    """A column of a score table.

    Attributes:
        arrow: "↑" where higher is better, "↓" where lower is, "" where neither.
        says: the tooltip: quantity, unit, convention.
        score: measured on the test photographs.
    """

    key: str
    title: str
    arrow: str
    says: str
    show: Callable[[Any], str]
    score: bool = True


@dataclass(frozen=True)
class Cell:
    """A value as shown and as sorted (empty: always last)."""

    shown: str
    sort: str


@dataclass(frozen=True)
class Line:
    """A row of a score table.

    Attributes:
        kind: winner, lora, base, reference, input or ceiling.
        dropped_after: photographs after which the race dropped it; None for those that saw all.
        feasible: it meets the constraints.
    """

    kind: str
    cells: list[Cell]
    dropped_after: int | None
    feasible: bool


@dataclass(frozen=True)
class Table:
    """Columns and lines, best composite first."""

    columns: list[Column]
    lines: list[Line]


def short_table(study: StudyData) -> Table:
    """The references, the best cell of the bare base, and the best LoRA candidates of the best round."""
    rows = [row for row in study.running if row["kind"] == "reference"]
    rows += [row for row in study.running if row["kind"] == "base"][:1]
    rows += [row for row in study.running if row["kind"] == "lora"][:_TOP]
    columns = _columns(study)
    keys = ("name", "composite", "psnr_y", "ssim_y", "perceptual", "strength", "start_noise", "steps", "detail_return")
    varied = [key for key in _RARE if len({row[key] for row in rows if row["kind"] == "lora"}) > 1]
    return _table([columns[key] for key in (*keys, *varied)], rows, study)


def full_table(study: StudyData) -> Table:
    """Every row of the best round's score table with every number; what the race dropped stands last."""
    return _table(list(_columns(study).values()), study.scores, study)


def _rank(row: Row) -> tuple[bool, float]:
    value = row["composite"]
    return row["dropped_after"] is not None, float("inf") if value is None or value != value else -value


def _table(columns: list[Column], rows: list[Row], study: StudyData) -> Table:
    lines = [
        Line(
            kind=_kind(row, study),
            cells=[_cell(row[column.key], column, row) for column in columns],
            dropped_after=row["dropped_after"],
            feasible=row["feasible"] is not False,
        )
        for row in sorted(rows, key=_rank)
    ]
    return Table(columns, lines)


def _cell(value: Any, column: Column, row: Row) -> Cell:
    """Scores of a dropped row are of other photographs than the rest, so no sorting puts them among the others."""
    absent = value is None or value != value
    apart = row["dropped_after"] is not None and column.score
    return Cell(column.show(value), "" if absent or apart else str(value))


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


def _probability(value: float | None) -> str:
    return MISSING if value is None else "<0.0001" if value < 1e-4 else f"{value:.2g}"


_RARE = ("lora_scale", "colour_fix", "sampler", "guidance_scale", "seed")


def _columns(study: StudyData) -> dict[str, Column]:
    """All columns: the scores, their certainty, further metrics of the round, the settings."""
    columns = [
        Column("name", "Candidate", "", "Checkpoint of the LoRA, the bare base model, or a reference", str, False)
    ]
    columns += [*_scores(study.winner["perceptual_name"]), *_certainty()]
    settings = _settings()
    columns += [_further(metric, study) for metric in (*DIAGNOSTICS, *METRICS.values()) if metric.name in study.winner]
    return {column.key: column for column in [*columns, *settings]}


def _further(metric: Metric, study: StudyData) -> Column:
    """A metric that the experiment asked for beside the core ones."""
    arrow = "" if metric.lower_is_better is None else "↓" if metric.lower_is_better else "↑"
    return Column(metric.name, metric.label, arrow, study.conventions.get(metric.name, metric.label), _decimals(4))


def _scores(perceptual: str) -> list[Column]:
    colours = "of red, green and blue"
    return [
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
    ]


def _certainty() -> list[Column]:
    test = "chance of so large a composite if there were no gain: one-sided Wilcoxon test, paired by photograph"
    return [
        Column("composite_low", "from", "", "Lower end of the composite's 95 % interval, points", _gain(2)),
        Column("composite_high", "to", "", "Upper end of the composite's 95 % interval, points", _gain(2)),
        Column("p_input", "p, input", "↓", f"Over the input: {test}", _probability),
        Column("p_champion", "p, champion", "↓", f"Over the champion of the earlier rounds: {test}", _probability),
        Column("photos", "Photos", "", "Test photographs that it was scored on", plain, False),
        Column("dropped_after", "Out after", "", "Photographs after which the race dropped it", plain, False),
    ]


def _settings() -> list[Column]:
    columns = [
        Column("strength", "Strength", "", "Denoising strength of img2img, 0 to 1", plain, False),
        Column("start_noise", "Start noise", "", "Share of the start noise: 0 none, 1 as web UIs do it", plain, False),
        Column("steps", "Steps", "", "Denoiser evaluations for each picture", plain, False),
        Column("num_inference_steps", "UI steps", "", "Sampling steps (num_inference_steps) in a web UI", plain, False),
        Column("start_timestep", "Start t", "", "Timestep of the scheduler where the restoration starts", plain, False),
        Column(
            "detail_return", "Detail return", "", "Share of what the autoencoder dropped that is put back", plain, False
        ),
    ]
    titles = {key: SETTING_NAMES[key][0].upper() + SETTING_NAMES[key][1:] for key in _RARE}
    columns += [Column(key, title, "", SETTING_NAMES[key], plain, False) for key, title in titles.items()]
    return [*columns, Column("epoch", "Epoch", "", "Epoch of the checkpoint", plain, False)]


@dataclass(frozen=True)
class RoundLine:
    """A round: its settings, its result, and why.

    Attributes:
        because: why it was stopped early; "" where it was not.
        settings: (value, whether it differs from the round before) for each changed key.
        result: PSNR-Y in dB, SSIM-Y, perceptual distance in per cent, composite in points, all against the input.
        found: the winner's epoch, strength, start noise, steps and detail return.
        findings: (what a diagnosis says, its advice as (key, range) pairs).
        advice: what the study's own data say about epochs, photographs, time.
        people: what judges of its winner preferred.
    """

    number: int
    best: bool
    pruned: bool
    because: str
    settings: list[tuple[str, bool]]
    result: list[str]
    composite: str
    found: list[str]
    reason: str
    findings: list[tuple[str, list[tuple[str, str]]]]
    advice: list[str]
    people: list[str]
    open: bool


def round_lines(
    rounds: Sequence[RoundData], best: RoundData | None, judgements: Sequence[Judgement] = ()
) -> list[RoundLine]:
    """The finished rounds in order; the notes of the best and the last are open, all where there are few."""
    few = len(rounds) <= 3
    keys = changed_keys(rounds)
    lines = []
    before: Sequence[Any] | None = None
    for one in rounds:
        values = [value_at(one.experiment, key) for key in keys]
        changed = [before is not None and value != before[at] for at, value in enumerate(values)]
        settings = [(plain(value), differs) for value, differs in zip(values, changed, strict=True)]
        people = [] if one.pruned else [preference(score) for score in human_scores(judgements, one.winner["id"])]
        lines.append(_round_line(one, settings, people, one is best, few or one is best or one is rounds[-1]))
        before = values
    return lines


_FOUND = ("epoch", "strength", "start_noise", "steps", "detail_return")


def _round_line(
    one: RoundData, settings: list[tuple[str, bool]], people: list[str], best: bool, opened: bool
) -> RoundLine:
    return RoundLine(
        number=one.number,
        best=best,
        pruned=one.pruned,
        because=one.result["pruned_because"] or "",
        settings=settings,
        result=[MISSING] * 4 if one.pruned else _result(one.winner),
        composite=MISSING if one.pruned else signed(one.composite, 2),
        found=[MISSING if one.pruned else plain(one.winner[key]) for key in _FOUND],
        reason=one.result["reason"],
        findings=[(found["says"], advice_phrase(found["advice"])) for found in one.result["diagnosis"]],
        advice=list(one.result["advice"]),
        people=people,
        open=opened,
    )


def _result(winner: Row) -> list[str]:
    return [
        signed(winner["gain_psnr_y"], 2),
        signed(winner["gain_ssim_y"], 3),
        signed(-100 * winner["gain_perceptual"], 1),
        signed(winner["composite"], 2),
    ]
