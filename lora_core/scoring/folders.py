"""Scores of one folder of photographs against another, without a study."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection
from lora_core.images import list_photos
from lora_core.perceptual import choose_perceptual
from lora_core.scoring.cautions import warn_of_equal_pictures
from lora_core.scoring.pictures import read_pair
from lora_core.scoring.points import mean_of
from lora_core.scoring.scorer import SCORES, WORKERS, score_pair


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
        rows = list(pool.map(lambda pair: score_pair(*read_pair(*pair), perceptual), pairs.values()))
    warn_of_equal_pictures(rows)
    named = [{"photo": stem, **row} for stem, row in zip(pairs, rows, strict=True)]
    named.append({"photo": f"mean of {len(rows)}"} | {key: mean_of([row[key] for row in rows]) for key in SCORES})
    schema = {"photo": pl.String, **dict.fromkeys(SCORES, pl.Float64)}
    return pl.DataFrame(named, schema=schema).with_columns(perceptual_name=pl.lit(perceptual.name))


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
