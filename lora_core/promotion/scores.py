"""What a champion scored on each test photograph, and all that decides whether another can be held against it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import read_json, write_json
from lora_core.scoring.scorer import SCORES
from lora_core.scoring.tables import PHOTO_SCHEMA
from lora_core.workspace import RoundFolder

_SAME = 1e-3
"""Scores of the input that differ by no more, relatively, are the same picture and metric on another machine."""


@dataclass(frozen=True)
class PhotoScores:
    """A LoRA's scores on the test photographs.

    Attributes:
        test_digest: sha256 of the test photographs and their degraded twins.
        base_digest: sha256 of the base model.
        judged_by: what decides a composite: the perceptual metric, weights, constraints, the size of the pictures.
        feasible: whether the constraints are met.
        photos: its scores and composite, by photograph.
        input: the degraded input's scores, by photograph.
    """

    test_digest: str
    base_digest: str
    judged_by: dict[str, Any]
    feasible: bool
    photos: dict[str, dict[str, float]]
    input: dict[str, dict[str, float]]

    @property
    def points(self) -> dict[str, float]:
        """The composite of each photograph."""
        return {photo: scores["composite"] for photo, scores in self.photos.items()}

    def write(self, path: Path) -> None:
        """Writes them as JSON."""
        write_json(path, asdict(self))


def read_scores(path: Path) -> PhotoScores:
    """Reads what `PhotoScores.write` wrote. Raises DataError where it is missing or damaged."""
    try:
        return PhotoScores(**read_json(path))
    except TypeError as error:
        raise DataError(f"{path} does not hold a champion's scores of this version ({error})") from error


def scores_of(folder: RoundFolder, run: Experiment, result: dict[str, Any]) -> PhotoScores:
    """The winner's scores in a round's table.

    Args:
        folder: the round's.
        run: its experiment.
        result: its `result.json`.

    Raises:
        DataError: the table is missing, or has no row of the winner or the input.
    """
    try:
        table = pl.read_parquet(folder.photo_table)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot read {folder.photo_table}; score the round again: photo-enhancer score") from error
    rows = {part: _rows(table, result[part]["id"]) for part in ("winner", "input")}
    if lacking := [part for part, found in rows.items() if not found]:
        raise DataError(f"{folder.photo_table} has no row of the round's {lacking[0]}; score the round again")
    judged_by = {**run.scoring.deciding(), "perceptual": result["perceptual"]["name"], "test_size": run.data.test_size}
    del judged_by["lpips_weights"]  # a place; what the metric makes of the input is compared
    return PhotoScores(
        test_digest=result["test_digest"],
        base_digest=result["base_digest"],
        judged_by=judged_by,
        feasible=result["winner"].get("feasible") is not False,
        photos=rows["winner"],
        input={photo: {name: row[name] for name in SCORES} for photo, row in rows["input"].items()},
    )


def refusal(candidate: PhotoScores, champion: PhotoScores) -> str | None:
    """Why the composites of two LoRAs cannot be compared, in words that name what differs; None where they can."""
    if candidate.test_digest != champion.test_digest or candidate.photos.keys() != champion.photos.keys():
        return "the champion was scored on other test photographs (or other degraded twins of them)"
    for key in sorted(candidate.judged_by.keys() | champion.judged_by.keys()):
        now, then = candidate.judged_by.get(key), champion.judged_by.get(key)
        if now != then:
            return f"the champion was scored by another rule: {_spelt(key)} was {then}, now it is {now}"
    for photo, scores in candidate.input.items():
        for name, value in scores.items():
            then = champion.input.get(photo, {}).get(name)
            if then is None:
                return f"the champion was scored without {name}, by another version of Photo Enhancer"
            if not math.isclose(value, then, rel_tol=_SAME, abs_tol=_SAME**2):
                return f"the champion's {name} was measured in another way: of the degraded {photo} itself it differs"
    return None


def _rows(table: pl.DataFrame, cell: str) -> dict[str, dict[str, float]]:
    names = [name for name in PHOTO_SCHEMA if name not in ("id", "photo")]
    rows = table.filter(pl.col("id") == cell).sort("photo")
    return {row["photo"]: {name: row[name] for name in names} for row in rows.to_dicts()}


def _spelt(key: str) -> str:
    return "data.test_size" if key == "test_size" else f"scoring.{key}"
