"""The scores of one round: its tables, and what they say."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lora_core import metrics
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import file_digest, read_json, write_with
from lora_core.progress import progress_bar
from lora_core.scoring import breakdown, statistics
from lora_core.scoring.cautions import warn_of_equal_pictures
from lora_core.scoring.columns import Columns, means_of
from lora_core.scoring.conclusions import conclusions
from lora_core.scoring.constraints import add_feasible, constraints_of, unmet
from lora_core.scoring.points import Row
from lora_core.scoring.rivals import champion_composites
from lora_core.scoring.scorer import Scorer
from lora_core.scoring.tables import (
    PHOTO_SCHEMA,
    SCHEMA,
    STATISTICS,
    input_id,
    mean_rows,
    photo_rows,
    with_columns,
)
from lora_core.scoring.writing import write_tables
from lora_core.share import Share, require_same
from lora_core.workspace import RoundFolder, StudyFolder, Workspace


def score_round(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Scores the cells and references of round `number` and writes its tables (see `RoundFolder`).

    Returns:
        winner, base, classical: the rows with the highest composite among LoRA cells, cells of the bare base and
        classical filters, each None where there is none; of equals the first in the table. Rows that meet the
        constraints come before those that do not; rows that the race dropped never count.
        input, autoencoder: the rows of these references.
        front: ids of the LoRA and base cells that no other beats in both PSNR-Y and perceptual distance.
        perceptual: name of the metric, and the reason for it.
        constraints: what no LoRA cell achieved, in words; empty where all constraints are met.
        left_out: further metrics that these photographs do not allow, by name, with the reason.

    Raises:
        DataError: the sweep is not complete, or a picture is missing, unreadable or of another size.
        ConfigError, ResourceError: the perceptual metric or a further one cannot be had.
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    sweep = _read_sweep(folder)
    entries = _entries(sweep)
    start = input_id(entries)
    _require_complete(study, entries)
    scorer = Scorer(study, sweep["test"], experiment.scoring)
    _require_metric_of_the_race(folder, sweep, scorer.perceptual.name)
    columns = Columns(study, scorer.originals, experiment.scoring)
    scores, further = _scored(scorer, columns, entries, sweep["test"])
    by_photo = photo_rows(entries, scores, experiment.scoring)
    warn_of_equal_pictures(row for of_cell in by_photo.values() for row in of_cell)
    inputs = {row["photo"]: row for row in by_photo[start]}
    rows = mean_rows(entries, by_photo, scorer.perceptual.name)
    champion = champion_composites(study, number, inputs, experiment)
    statistics.add_statistics(rows, by_photo, champion, experiment.seed)
    constraints = constraints_of(experiment.scoring)
    add_feasible(rows, constraints)
    rows = [{**row, **means_of(further.get(row["id"], {}), columns.names)} for row in rows]
    concluded = conclusions(rows)
    shown = [row for name in ("winner", "base", "classical") if (row := concluded[name]) is not None]
    by_degradation = breakdown.degradation_rows(shown, by_photo, inputs, workspace)
    _write(folder, rows, with_columns(by_photo, further, columns.names), by_degradation, scorer, columns)
    return {
        **concluded,
        "perceptual": {"name": scorer.perceptual.name, "reason": scorer.perceptual.reason},
        "constraints": unmet(rows, constraints),
        "left_out": columns.left_out,
    }


def score_part(workspace: Workspace, experiment: Experiment, number: int, share: Share, digest: str) -> None:
    """Scores a share of the cells and references; `score_round` then finds their scores.

    Args:
        share: one of several; all of them may be at work at once, here and elsewhere.
        digest: of `sweep.json` as it is where the work is shared out.

    Raises:
        DataError, ConfigError, ResourceError: as `score_round`, or this machine sees another sweep.
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    sweep = _read_sweep(folder)
    require_same(file_digest(folder.sweep_done), digest, "the cells", folder.sweep_done)
    entries = _entries(sweep)
    _require_complete(study, entries)
    scorer = Scorer(study, sweep["test"], experiment.scoring)
    _scored(scorer, Columns(study, scorer.originals, experiment.scoring), share.of(entries), sweep["test"])


def _scored(
    scorer: Scorer, columns: Columns, entries: list[Row], names: list[str]
) -> tuple[dict[str, list[Row]], dict[str, dict[str, Row]]]:
    """The core scores of every entry, and the further columns of those that saw all photographs."""
    whole = [entry["id"] for entry in entries if entry["dropped_after"] is None]
    with progress_bar("score", "cell", len(entries) + len(whole)) as bar:
        scores = scorer.each({entry["id"]: names[: entry["dropped_after"]] for entry in entries}, bar.update)
        return scores, columns.each(whole, bar.update)


def _write(
    folder: RoundFolder,
    rows: list[Row],
    photo_table: list[Row],
    by_degradation: list[Row],
    scorer: Scorer,
    columns: Columns,
) -> None:
    further = dict.fromkeys(columns.names, pl.Float64)
    table = pl.DataFrame(rows, schema={**SCHEMA, **STATISTICS, **further})
    conventions: Mapping[str, str] = {
        **{name: text for name, text in metrics.CONVENTIONS.items() if name in SCHEMA},
        "perceptual": f"{scorer.perceptual.name}: {scorer.perceptual.convention}",
        **statistics.CONVENTIONS,
        **{one.name: one.convention for one in columns.opened},
        **columns.left_out,
    }
    write_with(
        folder.degradation_table,
        lambda path: pl.DataFrame(by_degradation, schema=breakdown.SCHEMA).write_parquet(path),
    )
    write_tables(folder, table, pl.DataFrame(photo_table, schema={**PHOTO_SCHEMA, **further}), dict(conventions))


def _read_sweep(folder: RoundFolder) -> dict[str, Any]:
    if not folder.sweep_done.exists():
        raise DataError(f"{folder.sweep_done} does not exist; run the sweep first: photo-enhancer sweep")
    return dict(read_json(folder.sweep_done))


def _entries(sweep: dict[str, Any]) -> list[Row]:
    """References and cells; `dropped_after` is the number of photographs that one has seen which the race dropped."""
    total = len(sweep["test"])
    entries = []
    for entry in (*sweep["references"], *sweep["cells"]):
        photos = entry.get("photos", total)
        entries.append({**entry, "dropped_after": photos if photos < total else None})
    return entries


def _require_metric_of_the_race(folder: RoundFolder, sweep: dict[str, Any], name: str) -> None:
    """What was dropped by one metric cannot be missing from a table of another."""
    if (race := sweep.get("race")) and race.get("perceptual", name) != name:
        raise DataError(
            f"the race of this round was judged with {race['perceptual']}, now it is {name} (weights came or went); "
            f"bring that back, or delete {folder.sweep_done} and sweep the round again: photo-enhancer sweep"
        )


def _require_complete(study: StudyFolder, entries: list[Row]) -> None:
    for entry in entries:
        folder = study.cells / entry["id"]
        if not (folder / "cell.json").exists():
            raise DataError(
                f"{folder} has no cell.json, so it is not complete; run the sweep again: photo-enhancer sweep"
            )
