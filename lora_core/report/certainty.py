"""How sure the composites are: the top candidates and their rivals with 95 % intervals."""

from functools import partial

from lora_core.report.bars import Interval, intervals_chart
from lora_core.report.data import Row, StudyData
from lora_core.report.drawings import Drawing, both
from lora_core.report.words import chance, differing, inference_phrase, signed, telling_phrase

_TOP = 6
"""LoRA candidates on the chart."""


def draw_certainty(study: StudyData) -> Drawing | None:
    """The best LoRA candidates, the best base and the best classical filter; None where intervals were not kept."""
    rows = [row for row in study.running if row["composite_low"] is not None and row["composite_high"] is not None]
    lora = [row for row in rows if row["kind"] == "lora"]
    if not lora:
        return None
    rivals = {study.best.result[name]["id"] for name in ("base", "classical")}
    chosen = [*lora[:_TOP], *(row for row in rows if row["id"] in rivals)]
    if all(row["id"] != study.winner["id"] for row in chosen):  # a better one broke a constraint
        chosen.insert(0, study.winner)
    varied = differing([row for row in chosen if row["kind"] == "lora"])
    return both(partial(intervals_chart, [_interval(row, study, varied) for row in chosen]))


def _interval(row: Row, study: StudyData, varied: list[str]) -> Interval:
    winner = row["id"] == study.winner["id"]
    name = telling_phrase(row, varied)
    name += ", breaks a constraint" if row["feasible"] is False else ""
    title = f"{name if row['kind'] == 'reference' else inference_phrase(row)}: {signed(row['composite'], 2)} points"
    if row["p_input"] is not None:
        title += f", over the input {chance(row['p_input'])}"
    return Interval(
        label=f"best LoRA: {name}" if winner else name,
        kind="winner" if winner else row["kind"],
        value=row["composite"],
        low=row["composite_low"],
        high=row["composite_high"],
        title=title,
    )
