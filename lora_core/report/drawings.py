"""From the study's rows to the page's charts, each in a wide and a narrow drawing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from lora_core.report.charts import (
    FrontMark,
    Level,
    RoundMark,
    Series,
    curves_chart,
    front_chart,
    in_view,
    rounds_chart,
    spans_widely,
)
from lora_core.report.curves import loss_series, rate_series, validation_series
from lora_core.report.data import Row, StudyData
from lora_core.report.words import inference_phrase, number, signed
from lora_core.scoring import pareto_front

WIDE, NARROW, SMALL = 1004.0, 350.0, 320.0
"""Pixels: the page's text width, a telephone's, and a chart among many."""


@dataclass(frozen=True)
class Drawing:
    """One chart at two widths; the style sheet shows the one that fits the screen."""

    wide: Markup
    narrow: Markup


def both(draw: Callable[[float], Markup]) -> Drawing:
    """The chart at the page's width and at a telephone's."""
    return Drawing(draw(WIDE), draw(NARROW))


def draw_rounds(study: StudyData) -> Drawing:
    """Composite by round, with the best classical filter and the bare base of the best round as levels."""
    marks = [
        RoundMark(
            one.number,
            one.composite,
            f"round {one.number}: {signed(one.composite, 2)} points; {inference_phrase(one.winner)}",
            one is study.best,
        )
        for one in study.rounds
    ]
    result = study.best.result
    levels = [
        Level(result["classical"]["name"], result["classical"]["composite"], "reference"),
        Level("base model", result["base"]["composite"], "base"),
    ]
    return both(partial(rounds_chart, marks, levels))


def finite(value: float | None) -> bool:
    """Whether there is a number at all."""
    return value is not None and math.isfinite(value)


def draw_front(study: StudyData) -> tuple[Drawing, int]:
    """The fidelity–perception chart of the best round, and how many candidates lie outside its frame.

    What the race dropped has no place in it: its scores are of fewer photographs.
    """
    rows = [row for row in study.running if finite(row["psnr_y"]) and finite(row["perceptual"])]
    front = set(pareto_front(row for row in rows if row["name"] != "autoencoder"))
    marks = [_front_mark(row, row["id"] in front, study.best.result) for row in rows]
    name = study.best.winner["perceptual_name"]
    return both(partial(front_chart, marks, name)), len(marks) - len(in_view(marks))


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
    losses = [one for part in study.finished if (one := loss_series(part, part is study.best))]
    rates = [one for part in study.finished if (one := rate_series(part, part is study.best))]
    if not losses:
        return None
    log = spans_widely(losses)
    validations = [one for part in study.finished if (one := validation_series(part, part is study.best))]
    return Curves(
        validation=both(partial(curves_chart, "validation loss", validations)) if validations else None,
        loss=both(partial(curves_chart, "training loss", losses, log=log)),
        rate=both(partial(curves_chart, "learning rate", rates, height=210)),
        single=[_single(one, losses, log) for one in losses] if len(losses) > 2 else [],
    )


def _single(one: Series, losses: Sequence[Series], log: bool) -> tuple[str, Markup]:
    return one.name, curves_chart("training loss", [one], SMALL, height=190, log=log, frame_of=losses)
