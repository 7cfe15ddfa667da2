"""From the study's rows to the page's charts, each in a wide and a narrow drawing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from lora_core.report.charts import (
    FrontMark,
    HeatMap,
    Level,
    RoundMark,
    Series,
    curves_chart,
    front_chart,
    heat_map,
    in_view,
    rounds_chart,
    spans_widely,
)
from lora_core.report.curves import loss_series, rate_series, validation_series
from lora_core.report.data import Row, StudyData
from lora_core.report.words import inference_phrase, number, plain, signed
from lora_core.scoring import pareto_front

WIDE, NARROW, SMALL = 1004.0, 350.0, 320.0
"""Pixels: the page's text width, a telephone's, and a chart among many."""
_MINIMAL_LIMIT = 0.5
"""Points at which a heat map's colour is full where no candidate is that far from the input."""


@dataclass(frozen=True)
class Drawing:
    """One chart at two widths; the style sheet shows the one that fits the screen."""

    wide: Markup
    narrow: Markup


def _both(draw: Callable[[float], Markup]) -> Drawing:
    return Drawing(draw(WIDE), draw(NARROW))


def draw_rounds(study: StudyData) -> Drawing:
    """Composite by round, with the best classical filter and the bare base of the best round as levels."""
    marks = [
        RoundMark(
            one.number,
            one.composite,
            f"round {one.number}: {signed(one.composite, 2)} points; {inference_phrase(one.winner)}",
        )
        for one in study.rounds
    ]
    result = study.best.result
    levels = [
        Level(result["classical"]["name"], result["classical"]["composite"], "reference"),
        Level("base model", result["base"]["composite"], "base"),
    ]
    return _both(partial(rounds_chart, marks, levels))


@dataclass(frozen=True)
class Axis:
    """One setting that tells the slices apart, with the values to choose from."""

    key: str
    title: str
    values: list[str]


@dataclass(frozen=True)
class Slice:
    """Checkpoint by strength at one start noise, number of steps and detail return."""

    key: str
    caption: str
    best: bool
    drawing: Drawing


_SLICE_KEYS = {"start_noise": "start noise", "steps": "steps", "detail_return": "detail return"}


def draw_slices(study: StudyData) -> tuple[list[Axis], list[Slice]]:
    """All slices of the best round's grid, the winner's first, and the settings that have several values."""
    cells = [row for row in study.scores if row["kind"] in ("lora", "base")]
    axes = [
        Axis(key, title, [plain(value) for value in sorted({row[key] for row in cells})])
        for key, title in _SLICE_KEYS.items()
    ]
    finite = [row["composite"] for row in cells if _finite(row["composite"])]
    limit = max(_MINIMAL_LIMIT, *finite, float(np.median(np.abs(finite)))) if finite else _MINIMAL_LIMIT
    winner = _slice_of(study.best.winner)
    keys = sorted({_slice_of(row) for row in cells}, key=lambda key: (key != winner, key))
    slices = []
    for key in keys:
        heat = _heat(study, [row for row in cells if _slice_of(row) == key], limit)
        caption = ", ".join(f"{title} {plain(value)}" for title, value in zip(_SLICE_KEYS.values(), key, strict=True))
        name = "|".join(plain(value) for value in key)
        slices.append(Slice(name, caption, key == winner, _both(partial(heat_map, heat))))
    return [axis for axis in axes if len(axis.values) > 1], slices


def _slice_of(row: Row) -> tuple[float, int, float]:
    return row["start_noise"], row["steps"], row["detail_return"]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _heat(study: StudyData, rows: list[Row], limit: float) -> HeatMap:
    """The bare base is the first row, then the checkpoints in order of training."""
    epochs = sorted({row["epoch"] for row in rows}, key=lambda epoch: -1 if epoch is None else epoch)
    strengths = sorted({row["strength"] for row in rows})
    found = {(row["epoch"], row["strength"]): row for row in rows}
    cells = [[_heat_cell(found.get((epoch, strength))) for strength in strengths] for epoch in epochs]
    places = {row["id"]: (epochs.index(row["epoch"]), strengths.index(row["strength"])) for row in rows}
    return HeatMap(
        rows=["no LoRA" if epoch is None else f"epoch {epoch}" for epoch in epochs],
        columns=[plain(strength) for strength in strengths],
        cells=cells,
        marked=places.get(study.best.winner["id"]),
        limit=limit,
    )


def _heat_cell(row: Row | None) -> tuple[float | None, str]:
    if row is None or not _finite(row["composite"]):
        return None, "not measured"
    title = (
        f"{inference_phrase(row)}, from timestep {row['start_timestep']}: {signed(row['composite'], 2)} points; "
        f"PSNR-Y {number(row['psnr_y'], 2)} dB, SSIM-Y {number(row['ssim_y'], 3)}, "
        f"{row['perceptual_name']} {number(row['perceptual'], 3)}"
    )
    return row["composite"], title


def draw_front(study: StudyData) -> tuple[Drawing, int]:
    """The fidelity–perception chart of the best round, and how many candidates lie outside its frame."""
    rows = [row for row in study.scores if _finite(row["psnr_y"]) and _finite(row["perceptual"])]
    front = set(pareto_front(row for row in rows if row["name"] != "autoencoder"))
    marks = [_front_mark(row, row["id"] in front, study.best.result) for row in rows]
    name = study.best.winner["perceptual_name"]
    return _both(partial(front_chart, marks, name)), len(marks) - len(in_view(marks))


def _front_mark(row: Row, front: bool, result: dict[str, Any]) -> FrontMark:
    name = row["name"] if row["kind"] == "reference" else inference_phrase(row)
    title = (
        f"{name}: PSNR-Y {number(row['psnr_y'], 2)} dB, "
        f"{row['perceptual_name']} {number(row['perceptual'], 3)}, {signed(row['composite'], 2)} points"
    )
    label = row["name"] if row["kind"] == "reference" else ""
    winner = row["id"] == result["winner"]["id"]
    if winner:
        label = "best LoRA"
    elif row["id"] == result["base"]["id"]:
        label = "base model"
    return FrontMark(
        fidelity=row["psnr_y"],
        distance=row["perceptual"],
        kind="input" if row["name"] == "input" else row["kind"],
        title=title,
        label=label,
        winner=winner,
        front=front,
        reachable=row["name"] != "autoencoder",
    )


@dataclass(frozen=True)
class Curves:
    """Training curves: all rounds together, and each round's loss by itself where there are several.

    Attributes:
        validation: None where no round measured it.
    """

    validation: Drawing | None
    loss: Drawing
    rate: Drawing
    single: list[tuple[str, Markup]]


def draw_curves(study: StudyData) -> Curves | None:
    """Loss and learning rate of every round; None where no round has a log."""
    losses = [one for part in study.rounds if (one := loss_series(part, part is study.best))]
    rates = [one for part in study.rounds if (one := rate_series(part, part is study.best))]
    if not losses:
        return None
    log = spans_widely(losses)
    validations = [one for part in study.rounds if (one := validation_series(part, part is study.best))]
    return Curves(
        validation=_both(partial(curves_chart, "validation loss", validations)) if validations else None,
        loss=_both(partial(curves_chart, "training loss", losses, log=log)),
        rate=_both(partial(curves_chart, "learning rate", rates, height=210)),
        single=[_single(one, losses, log) for one in losses] if len(losses) > 2 else [],
    )


def _single(one: Series, losses: Sequence[Series], log: bool) -> tuple[str, Markup]:
    return one.name, curves_chart("training loss", [one], SMALL, height=190, log=log, frame_of=losses)
