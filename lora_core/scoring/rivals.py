"""The champion of the earlier rounds, as far as it can be compared photograph by photograph."""

from collections.abc import Mapping

import polars as pl

from lora_core.experiment import Experiment
from lora_core.lineage import read_results
from lora_core.scoring.conclusions import best_result
from lora_core.scoring.points import Row, composites
from lora_core.scoring.scorer import SCORES
from lora_core.scoring.tables import PHOTO_SCHEMA
from lora_core.tuning.batches import known_to
from lora_core.workspace import StudyFolder


def champion_composites(
    study: StudyFolder, number: int, inputs: Mapping[str, Row], experiment: Experiment
) -> dict[str, float] | None:
    """Composites, by photograph, of the best winner of the rounds before `number`.

    Args:
        study: the experiment's folder.
        number: the round that is being scored.
        inputs: the degraded input's scores by photograph, today.
        experiment: the weights, and which rounds run at the same time and do not know of each other.

    Returns:
        None where there is no earlier round, or where its scores are of other photographs or conventions: then the
        degraded input has other scores there.
    """
    best = best_result(known_to(experiment, number, read_results(study)))
    if best is None:
        return None
    path = study.round(best["round"]).photo_table
    if not path.exists():
        return None
    table = pl.read_parquet(path)
    if any(column not in table.columns for column in PHOTO_SCHEMA):
        return None
    then = {row["photo"]: row for row in table.filter(pl.col("id") == best["input"]["id"]).to_dicts()}
    if _scores(then) != _scores(inputs):
        return None
    rows = table.filter(pl.col("id") == best["winner"]["id"]).to_dicts()
    points = dict(zip((row["photo"] for row in rows), composites(rows, inputs, experiment.scoring), strict=True))
    return points if points.keys() == inputs.keys() else None


def _scores(rows: Mapping[str, Row]) -> dict[str, list[float]]:
    return {photo: [row[score] for score in SCORES] for photo, row in rows.items()}
