"""What is restored: the gains by kind and strength of degradation, from the manifest of the test photographs' twins.

A photograph counts for every operation that its twin went through. Levels are thirds of the strengths that occur among
the test photographs: weak, medium, strong; `all` is every photograph with that operation.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lora_core.degradation.manifest import Record, read_manifest
from lora_core.files import file_digest
from lora_core.images import stem
from lora_core.scoring.points import Row, gains_of, mean_distance, mean_of
from lora_core.scoring.tables import GAINS
from lora_core.workspace import Workspace

LEVELS = ("weak", "medium", "strong")
SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("id", "name", "operation", "level"), pl.String),
    "photos": pl.Int64,
    **dict.fromkeys((*GAINS, "composite"), pl.Float64),
}
OPERATIONS = ("blur", "ringing", "downsampling", "Gaussian noise", "shot noise", "JPEG")

_log = logging.getLogger(__name__)


def degradation_rows(
    rows: Sequence[Row], by_photo: Mapping[str, list[Row]], inputs: Mapping[str, Row], workspace: Workspace
) -> list[Row]:
    """Rows of `SCHEMA`: gains over the input by operation and level.

    Args:
        rows: which rows of the table; each has seen all photographs.
        by_photo: scores and composites by cell and photograph.
        inputs: the degraded input's rows by photograph.
        workspace: has the twins and their manifest.

    Returns:
        One a row of the table, operation and level. There are none for twins that were not made here: what was done to
        them is not known.
    """
    groups = _groups(strengths_of(workspace, list(inputs)))
    distance = mean_distance(inputs.values())
    broken_down = []
    for row in rows:
        of_cell = {one["photo"]: one for one in by_photo[row["id"]]}
        for (operation, level), photos in groups.items():
            gains = [gains_of(of_cell[photo], inputs[photo], distance) for photo in photos]
            broken_down.append(
                {"id": row["id"], "name": row["name"], "operation": operation, "level": level, "photos": len(photos)}
                | {gain: mean_of([one[gain] for one in gains]) for gain in GAINS}
                | {"composite": mean_of([of_cell[photo]["composite"] for photo in photos])}
            )
    return broken_down


def strengths_of(workspace: Workspace, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """How strongly each operation hit each test photograph, by operation and photograph; higher is worse.

    Only twins that still have the bytes that the manifest speaks of count.
    """
    folder = workspace.test_degraded
    records = {stem(record.file): record for record in read_manifest(folder).values()} if folder.is_dir() else {}
    known = [name for name in names if name in records and _is_ours(workspace, records[name])]
    if known and len(known) < len(names):
        _log.warning(
            "%d of %d test photographs have no record of their degradation", len(names) - len(known), len(names)
        )
    found: dict[str, dict[str, float]] = {operation: {} for operation in OPERATIONS}
    for name in known:
        for operation, strength in _strengths(records[name].parameters.get("operations", [])).items():
            found[operation][name] = strength
    return found


def _is_ours(workspace: Workspace, record: Record) -> bool:
    path = workspace.test_degraded / record.file
    return path.is_file() and file_digest(path) == record.output


def _strengths(operations: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of one photograph, the strongest where an operation came twice. Resizing counts where it lost pixels."""
    strengths: dict[str, float] = {}
    for one in operations:
        for operation, strength in _strength(one).items():
            strengths[operation] = max(strength, strengths.get(operation, strength))
    return strengths


def _strength(one: dict[str, Any]) -> dict[str, float]:
    match one["operation"]:
        case "Blur":
            return {"blur": float(np.sqrt(one["sigma_x"] * one["sigma_y"]))}
        case "Sinc":
            return {"ringing": -one["cutoff"]}
        case "Resize":
            return {"downsampling": 1 / one["scale"]} if one["scale"] < 1 else {}
        case "GaussianNoise":
            return {"Gaussian noise": one["sigma"]}
        case "PoissonNoise":
            return {"shot noise": one["scale"]}
        case "Jpeg":
            return {"JPEG": -float(one["quality"])}
    return {}


def _groups(strengths: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], list[str]]:
    """The photographs of each operation and level; levels where the strengths tell at least three apart."""
    groups = {}
    for operation, of_photo in strengths.items():
        if not of_photo:
            continue
        groups[operation, "all"] = list(of_photo)
        if len(set(of_photo.values())) < len(LEVELS):
            continue
        limits = np.quantile(list(of_photo.values()), [1 / 3, 2 / 3])
        for at, level in enumerate(LEVELS):
            photos = [photo for photo, value in of_photo.items() if int(np.searchsorted(limits, value)) == at]
            if photos:
                groups[operation, level] = photos
    return groups
