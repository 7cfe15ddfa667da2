"""The tables of a round as data frames: mean scores, a row a cell, and scores by photograph."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection
from lora_core.scoring.points import Row, composites, gains_of, mean_distance, mean_of
from lora_core.scoring.scorer import SCORES

SETTINGS: dict[str, Any] = {
    "epoch": pl.Int64,
    "strength": pl.Float64,
    "start_noise": pl.Float64,
    "steps": pl.Int64,
    "num_inference_steps": pl.Int64,
    "start_timestep": pl.Int64,
    "detail_return": pl.Float64,
    "lora_scale": pl.Float64,
    "colour_fix": pl.String,
    "sampler": pl.String,
    "guidance_scale": pl.Float64,
    "seed": pl.Int64,
}
"""The settings of a cell; null for a reference."""
GAINS = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual")
SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("id", "kind", "name"), pl.String),
    **SETTINGS,
    "photos": pl.Int64,
    "dropped_after": pl.Int64,
    **dict.fromkeys(SCORES, pl.Float64),
    "perceptual_name": pl.String,
    **dict.fromkeys((*GAINS, "composite"), pl.Float64),
}
STATISTICS: dict[str, Any] = {
    **dict.fromkeys(("composite_low", "composite_high", "p_input", "p_champion"), pl.Float64),
    "feasible": pl.Boolean,
}
"""Columns between the composite and the further metrics."""
PHOTO_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "photo": pl.String,
    **dict.fromkeys(SCORES, pl.Float64),
    "composite": pl.Float64,
}
SHOWN = (
    "name", "strength", "start_noise", "steps", "detail_return", "psnr_y", "ssim_y", "perceptual", "perceptual_name",
    "composite", "photos",
)  # fmt: skip
"""What a terminal or a Prefect page has room for."""


def photo_rows(
    entries: Sequence[Row], scores: Mapping[str, list[Row]], section: ScoringSection
) -> dict[str, list[Row]]:
    """The scores of every cell by photograph, with the composite of each.

    Raises:
        DataError: the sweep has no reference 'input', or there is nothing to restore.
    """
    inputs = {row["photo"]: row for row in scores[input_id(entries)]}
    return {
        cell: [
            {**row, "composite": points} for row, points in zip(rows, composites(rows, inputs, section), strict=True)
        ]
        for cell, rows in scores.items()
    }


def mean_rows(entries: Sequence[Row], by_photo: Mapping[str, list[Row]], perceptual_name: str) -> list[Row]:
    """A row of `SCHEMA` for every entry; those that the race dropped stand last.

    The means and gains of a dropped cell are over the photographs that it saw, the gains against the input on the
    same photographs; nothing is averaged over different photographs.

    Args:
        entries: references and cells; `dropped_after` says how many photographs a dropped one saw.
        by_photo: rows of `photo_rows`.
        perceptual_name: the perceptual metric.
    """
    inputs = {row["photo"]: row for row in by_photo[input_id(entries)]}
    distance = mean_distance(inputs.values())
    rows = []
    for entry in entries:
        of_cell = by_photo[entry["id"]]
        mean = _means(of_cell, SCORES)
        start = _means([inputs[row["photo"]] for row in of_cell], SCORES)
        row = {"id": entry["id"], "kind": entry["kind"], "name": name_of(entry)}
        row |= {key: entry.get(key) for key in SETTINGS}
        row |= {"photos": len(of_cell), "dropped_after": entry.get("dropped_after")} | mean
        row |= {"perceptual_name": perceptual_name} | gains_of(mean, start, distance)
        rows.append(row | _means(of_cell, ("composite",)))
    return sorted(rows, key=lambda row: row["dropped_after"] is not None)


def with_columns(
    by_photo: Mapping[str, list[Row]], further: Mapping[str, Mapping[str, Row]], names: Sequence[str]
) -> list[Row]:
    """All rows by photograph with their further columns; None where a cell has none."""
    rows = []
    for cell, of_cell in by_photo.items():
        known = further.get(cell, {})
        rows += [row | {name: known.get(row["photo"], {}).get(name) for name in names} for row in of_cell]
    return rows


def best_first(table: pl.DataFrame) -> pl.DataFrame:
    """A round's table by composite; those that the race dropped, whose means are of fewer photographs, come last."""
    return table.sort(pl.col("dropped_after").is_not_null(), "composite", descending=[False, True], nulls_last=True)


def input_id(entries: Sequence[Row]) -> str:
    """The reference against which gains are measured. Raises DataError where there is none."""
    for entry in entries:
        if entry["kind"] == "reference" and entry["name"] == "input":
            return str(entry["id"])
    raise DataError("the sweep has no reference 'input', against which gains are measured; run the sweep again")


def name_of(entry: Row) -> str:
    """What a person calls a row."""
    if entry["kind"] == "reference":
        return str(entry["name"])
    return "base without LoRA" if entry["epoch"] is None else f"epoch {entry['epoch']}"


def _means(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, float]:
    return {key: mean_of([row[key] for row in rows]) for key in keys}
