"""Scores of a round: every cell and reference against the originals, per photograph and in the mean.

A cell's scores are kept by the content of what was scored, so a killed run goes on where it was and no picture is
scored twice. Gains are differences of means over the test photographs, against the degraded input.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xlsxwriter

from lora_core import metrics
from lora_core.classical import CLASSICAL
from lora_core.errors import DataError
from lora_core.experiment import Experiment, ScoringSection
from lora_core.files import file_digest, read_json, value_digest, whole_file, write_json, write_with
from lora_core.images import list_photos, read_rgb
from lora_core.perceptual import Perceptual, choose_perceptual
from lora_core.progress import progress_bar
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

POINT = {"psnr_y": 1.0, "ssim_y": 0.04, "perceptual": 0.10}
"""The gain that is one point of the composite: in dB, in SSIM, as a share of the input's perceptual distance."""

WORKERS = min(4, os.cpu_count() or 1)
"""Cells scored at once; OpenCV and NumPy release the interpreter. Scores do not depend on it."""

_FIDELITY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "psnr_y": metrics.psnr_y,
    "psnr_rgb": metrics.psnr_rgb,
    "ssim_y": metrics.ssim_y,
    "ssim_rgb": metrics.ssim_rgb,
}
_SCORES = (*_FIDELITY, "perceptual")
_PHOTO_SCHEMA = {"id": pl.String, "photo": pl.String, **dict.fromkeys(_SCORES, pl.Float64)}
_SETTINGS = {
    "epoch": pl.Int64,
    "strength": pl.Float64,
    "start_noise": pl.Float64,
    "steps": pl.Int64,
    "num_inference_steps": pl.Int64,
    "start_timestep": pl.Int64,
    "detail_return": pl.Float64,
}
_GAINS = {"gain_psnr_y": pl.Float64, "gain_ssim_y": pl.Float64, "gain_perceptual": pl.Float64, "composite": pl.Float64}
_SCHEMA = {
    **dict.fromkeys(("id", "kind", "name"), pl.String),
    **_SETTINGS,
    "photos": pl.Int64,
    **dict.fromkeys(_SCORES, pl.Float64),
    "perceptual_name": pl.String,
    **_GAINS,
}
_EXCEL_FORMATS: dict[Any, str] = {
    **dict.fromkeys(("strength", "start_noise", "detail_return"), "General"),
    **dict.fromkeys(("psnr_y", "psnr_rgb"), "0.00"),
    **dict.fromkeys(("ssim_y", "ssim_rgb", "perceptual"), "0.0000"),
    **dict.fromkeys(("gain_psnr_y", "composite"), "+0.00;-0.00;0.00"),
    "gain_ssim_y": "+0.0000;-0.0000;0.0000",
    "gain_perceptual": "+0.0%;-0.0%;0.0%",
}

Row = dict[str, Any]
_log = logging.getLogger(__name__)


def score_round(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Scores the cells and references of round `number` and writes its tables (see `RoundFolder`).

    Returns:
        winner, base, classical: the rows with the highest composite among LoRA cells, cells of the bare base and
        classical filters, each None where there is none; of equals the first in the table.
        input, autoencoder: the rows of these references.
        front: ids of the LoRA and base cells that no other beats in both PSNR-Y and perceptual distance.
        perceptual: name of the metric, and the reason for it.

    Raises:
        DataError: the sweep is not complete, or a picture is missing, unreadable or of another size.
        ConfigError, ResourceError: the perceptual metric cannot be had (`choose_perceptual`).
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    if not folder.sweep_done.exists():
        raise DataError(f"{folder.sweep_done} does not exist; run the sweep first: photo-enhancer sweep")
    sweep = read_json(folder.sweep_done)
    entries: list[Row] = [*sweep["references"], *sweep["cells"]]
    perceptual = choose_perceptual(experiment.scoring)
    scores = _score_entries(study, [entry["id"] for entry in entries], sweep["test"], perceptual)
    table = _mean_table(entries, scores, perceptual, experiment.scoring)
    by_photo = [row for entry in entries for row in scores[entry["id"]]]
    _warn_of_equal_pictures(by_photo)
    _write_tables(folder, table, pl.DataFrame(by_photo, schema=_PHOTO_SCHEMA), perceptual)
    return {**_conclusions(table.to_dicts()), "perceptual": {"name": perceptual.name, "reason": perceptual.reason}}


def score_folders(restored: Path, original: Path, section: ScoringSection) -> pl.DataFrame:
    """Scores the photographs of one folder against those of the same names (without suffix) in another.

    Returns:
        A row a photograph in order of names, and a last row with the means: photo, psnr_y, psnr_rgb, ssim_y, ssim_rgb,
        perceptual, perceptual_name.

    Raises:
        DataError: a name is missing, surplus or there twice; a picture is unreadable or of another size.
        ConfigError, ResourceError: the perceptual metric cannot be had (`choose_perceptual`).
    """
    pairs = _match(restored, original)
    perceptual = choose_perceptual(section)
    with ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(lambda pair: score_pair(*_read_pair(*pair), perceptual), pairs.values()))
    _warn_of_equal_pictures(rows)
    named = [{"photo": stem, **row} for stem, row in zip(pairs, rows, strict=True)]
    named.append({"photo": f"mean of {len(rows)}", **_means(rows)})
    schema = {"photo": pl.String, **dict.fromkeys(_SCORES, pl.Float64)}
    return pl.DataFrame(named, schema=schema).with_columns(perceptual_name=pl.lit(perceptual.name))


def score_pair(restored: np.ndarray, original: np.ndarray, perceptual: Perceptual) -> dict[str, float]:
    """All scores of one (h, w, 3) uint8 picture against its original, by name.

    Raises:
        DataError: the sizes differ, or are too small for a metric's window.
    """
    fidelity = {name: metric(restored, original) for name, metric in _FIDELITY.items()}
    return {**fidelity, "perceptual": perceptual(restored, original)}


def composite(gain_psnr_y: float, gain_ssim_y: float, gain_perceptual: float, section: ScoringSection) -> float:
    """Weighted mean of the gains over the input, in points (`POINT`); the input itself has 0.

    Args:
        gain_psnr_y: dB.
        gain_ssim_y: difference of SSIM.
        gain_perceptual: share of the input's distance that is gone.
        section: the weights, of which at least one is above 0.
    """
    weighted = (
        section.psnr_weight * gain_psnr_y / POINT["psnr_y"]
        + section.ssim_weight * gain_ssim_y / POINT["ssim_y"]
        + section.perceptual_weight * gain_perceptual / POINT["perceptual"]
    )
    return weighted / (section.psnr_weight + section.ssim_weight + section.perceptual_weight)


def pareto_front(rows: Iterable[Row]) -> list[str]:
    """Ids of the rows that no other row beats in PSNR-Y or perceptual distance without losing in the other."""
    points = [(row["psnr_y"], -row["perceptual"], row["id"]) for row in rows]
    return [
        name
        for psnr, closeness, name in points
        if not any(p >= psnr and c >= closeness and (p, c) != (psnr, closeness) for p, c, _ in points)
    ]


@dataclass(frozen=True)
class _Originals:
    """The test photographs that every cell is compared with."""

    folder: Path
    digests: dict[str, str]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.png"


def _score_entries(
    study: StudyFolder, ids: list[str], names: list[str], perceptual: Perceptual
) -> dict[str, list[Row]]:
    """Rows of `_PHOTO_SCHEMA` by id, each computed or taken from the file of an earlier run."""
    folder = study.root / "test" / "original"
    originals = _Originals(folder, {name: _digest(folder / f"{name}.png") for name in names})
    scores = {}
    with ThreadPoolExecutor(WORKERS) as pool, progress_bar("score", "cell", len(ids)) as bar:
        rows = pool.map(lambda cell: _score_entry(study, cell, originals, perceptual), ids)
        for cell, of_cell in zip(ids, rows, strict=True):
            scores[cell] = of_cell
            bar.update()
    return scores


def _score_entry(study: StudyFolder, cell: str, originals: _Originals, perceptual: Perceptual) -> list[Row]:
    folder = study.cells / cell
    if not (folder / "cell.json").exists():
        raise DataError(f"{folder} has no cell.json, so it is not complete; run the sweep again: photo-enhancer sweep")
    conventions = {**metrics.CONVENTIONS, perceptual.name: perceptual.convention}
    scored = {name: [_digest(folder / f"{name}.png"), digest] for name, digest in originals.digests.items()}
    kept = study.scores / f"{cell}-{value_digest(conventions)[:16]}.json"
    if (rows := _kept_rows(kept, scored)) is not None:
        return rows
    rows = []
    for name in originals.digests:
        pair = _read_pair(folder / f"{name}.png", originals.path(name), way_out=_again(folder))
        rows.append({"id": cell, "photo": name, **score_pair(*pair, perceptual)})
    write_json(kept, {"conventions": conventions, "scored": scored, "rows": rows})
    return rows


def _kept_rows(path: Path, scored: dict[str, list[str]]) -> list[Row] | None:
    """What an earlier run found for the same bytes; None where it must be computed, as for a file that is damaged."""
    try:
        kept = read_json(path)
    except DataError:
        return None
    return kept["rows"] if kept.get("scored") == scored else None


def _digest(path: Path) -> str:
    """sha256 of a picture's bytes, restored or original."""
    try:
        return file_digest(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}{_again(path.parent)}") from error


def _again(folder: Path) -> str:
    """The way out where the sweep's pictures are not as the sweep left them: it makes again only what is not there."""
    return f"; delete {folder} and the round's sweep.json, and run the sweep again: photo-enhancer sweep"


def _read_pair(restored: Path, original: Path, way_out: str = "") -> tuple[np.ndarray, np.ndarray]:
    try:
        first, second = read_rgb(restored), read_rgb(original)
    except DataError as error:
        raise DataError(f"{error}{way_out}") from error
    try:
        metrics.require_pair(first, second)
    except DataError as error:
        raise DataError(f"{restored} against {original}: {error}{way_out}") from error
    return first, second


def _match(restored: Path, original: Path) -> dict[str, tuple[Path, Path]]:
    """Pairs of files by stem, in name order."""
    candidates, references = _by_stem(restored), _by_stem(original)
    problems = []
    if missing := sorted(references.keys() - candidates.keys()):
        problems.append(f"{restored} lacks {_listed(missing)}")
    if surplus := sorted(candidates.keys() - references.keys()):
        problems.append(f"{original} has no original of {_listed(surplus)}")
    if problems:
        raise DataError("; ".join(problems) + "; both folders need the same names (suffixes may differ)")
    if not candidates:
        raise DataError(f"{restored} and {original} hold no photographs")
    return {stem: (candidates[stem], references[stem]) for stem in sorted(candidates)}


def _by_stem(folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in list_photos(folder):
        if other := paths.get(path.stem):
            raise DataError(f"{folder} has both {other.name} and {path.name}; photographs are matched without suffix")
        paths[path.stem] = path
    return paths


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _means(rows: list[Row]) -> dict[str, float]:
    """Means of the scores; `fsum` is exact, so neither order nor machine changes them."""
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in _SCORES}


def _mean_table(
    entries: list[Row], scores: dict[str, list[Row]], perceptual: Perceptual, section: ScoringSection
) -> pl.DataFrame:
    means = {cell: _means(rows) for cell, rows in scores.items()}
    start = next((means[entry["id"]] for entry in entries if entry.get("name") == "input"), None)
    if start is None:
        raise DataError("the sweep has no reference 'input', against which gains are measured; run the sweep again")
    if start["perceptual"] == 0:
        raise DataError(
            "the degraded test photographs equal their originals: there is nothing to restore and no gain to measure; "
            "bring degraded twins, or make them with: photo-enhancer degrade"
        )
    rows = []
    for entry in entries:
        mean = means[entry["id"]]
        gains = {
            "gain_psnr_y": mean["psnr_y"] - start["psnr_y"],
            "gain_ssim_y": mean["ssim_y"] - start["ssim_y"],
            "gain_perceptual": (start["perceptual"] - mean["perceptual"]) / start["perceptual"],
        }
        row = {"id": entry["id"], "kind": entry["kind"], "name": _name(entry), "photos": len(scores[entry["id"]])}
        row |= {key: entry.get(key) for key in _SETTINGS} | mean | gains
        rows.append(row | {"perceptual_name": perceptual.name, "composite": composite(**gains, section=section)})
    return pl.DataFrame(rows, schema=_SCHEMA)


def _name(entry: Row) -> str:
    if entry["kind"] == "reference":
        return str(entry["name"])
    return "base without LoRA" if entry["epoch"] is None else f"epoch {entry['epoch']}"


def _conclusions(rows: list[Row]) -> dict[str, Any]:
    def best(chosen: Iterable[Row]) -> Row | None:
        return max(chosen, key=lambda row: row["composite"], default=None)  # max keeps the first of equals

    references = {row["name"]: row for row in rows if row["kind"] == "reference"}
    if "autoencoder" not in references:
        raise DataError("the sweep has no reference 'autoencoder'; run the sweep again: photo-enhancer sweep")
    return {
        "winner": best(row for row in rows if row["kind"] == "lora"),
        "input": references["input"],
        "base": best(row for row in rows if row["kind"] == "base"),
        "classical": best(row for name, row in references.items() if name in CLASSICAL),
        "autoencoder": references["autoencoder"],
        "front": pareto_front(row for row in rows if row["kind"] != "reference"),
    }


def _warn_of_equal_pictures(rows: list[Row]) -> None:
    """The cap is a choice of ours and pulls a mean up, so it is said aloud."""
    if equal := sum(row["psnr_rgb"] >= metrics.PSNR_CAP for row in rows):
        _log.warning(
            "pictures equal to their originals: %d; each counts as %g dB in the means", equal, metrics.PSNR_CAP
        )


def _write_tables(folder: RoundFolder, table: pl.DataFrame, by_photo: pl.DataFrame, perceptual: Perceptual) -> None:
    """Parquet, CSV and Excel; equal scores give equal bytes."""
    conventions = {name: text for name, text in metrics.CONVENTIONS.items() if name in table.columns}
    conventions["perceptual"] = f"{perceptual.name}: {perceptual.convention}"
    write_with(folder.photo_table, lambda path: by_photo.write_parquet(path, metadata=conventions))
    write_with(folder.table, lambda path: table.write_parquet(path, metadata=conventions))
    write_with(folder.table.with_suffix(".csv"), table.write_csv)
    with whole_file(folder.table.with_suffix(".xlsx")) as path:
        _write_excel(path, table, conventions)


def _write_excel(path: Path, table: pl.DataFrame, conventions: dict[str, str]) -> None:
    with xlsxwriter.Workbook(path) as workbook:
        workbook.set_properties({"created": datetime(2000, 1, 1)})  # a fixed one: equal tables, equal bytes
        table.write_excel(
            workbook, "scores", column_formats=_EXCEL_FORMATS, freeze_panes=(1, 0), autofit=True, autofilter=True
        )
        meanings = pl.DataFrame({"score": list(conventions), "convention": list(conventions.values())})
        meanings.write_excel(workbook, "conventions", freeze_panes=(1, 0), autofit=True)
