"""Heat maps of the best round's grid: any two of the settings that it varied, the others as the winner has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from lora_core.report.data import Row, StudyData
from lora_core.report.drawings import Drawing, both, finite
from lora_core.report.heat import HeatCell, HeatMap, heat_map
from lora_core.report.words import SETTING_NAMES, counted, inference_phrase, listed, number, plain, signed

_FIRST = ("epoch", "strength")
_MINIMAL_LIMIT = 0.5
"""Points at which the colour is full where no candidate is that far from the input."""


@dataclass(frozen=True)
class GridMap:
    """The composite over two settings.

    Attributes:
        down, across: keys of the settings.
        caption: the other varied settings, as the winner has them; "" where there is none.
    """

    down: str
    across: str
    caption: str
    drawing: Drawing


@dataclass(frozen=True)
class GridMaps:
    """All maps, checkpoint by strength first.

    Attributes:
        axes: (key, name) of the settings to choose from; two where there is one map alone.
    """

    axes: list[tuple[str, str]]
    maps: list[GridMap]


def draw_maps(study: StudyData) -> GridMaps:
    """A map for each pair of the settings that the grid varied."""
    cells = [row for row in study.scores if row["kind"] in ("lora", "base")]
    lora = [row for row in cells if row["kind"] == "lora"]
    axes = [key for key in SETTING_NAMES if key in _FIRST or len({row[key] for row in lora}) > 1]
    limit = _limit(study.running)
    pairs = sorted(combinations(axes, 2), key=lambda pair: pair != _FIRST)
    maps = [_map(study, cells, axes, pair, limit) for pair in pairs]
    return GridMaps([(key, SETTING_NAMES[key]) for key in axes], maps)


def _limit(rows: Sequence[Row]) -> float:
    found = [row["composite"] for row in rows if row["kind"] in ("lora", "base") and finite(row["composite"])]
    return max(_MINIMAL_LIMIT, *found, float(np.median(np.abs(found)))) if found else _MINIMAL_LIMIT


def _map(study: StudyData, cells: list[Row], axes: list[str], pair: tuple[str, str], limit: float) -> GridMap:
    down, across = pair
    others = [key for key in axes if key not in pair]
    winner = study.winner
    rows = [row for row in cells if _shown(row, pair) and all(_alike(row, winner, key) for key in others)]
    caption = listed([f"{SETTING_NAMES[key]} {plain(winner[key])}" for key in others])
    return GridMap(down, across, caption, both(partial(heat_map, _heat(rows, pair, winner, limit))))


def _shown(row: Row, pair: tuple[str, str]) -> bool:
    """The bare base is a row among the checkpoints, and has no place on an axis of the LoRA's own."""
    return row["kind"] == "lora" or ("epoch" in pair and "lora_scale" not in pair)


def _alike(row: Row, winner: Row, key: str) -> bool:
    return row[key] == winner[key] or (row["kind"] == "base" and row[key] is None)


def _heat(rows: list[Row], pair: tuple[str, str], winner: Row, limit: float) -> HeatMap:
    downs, acrosses = (_values(rows, key) for key in pair)
    found = {(row[pair[0]], row[pair[1]]): row for row in rows}
    places = {row["id"]: (downs.index(row[pair[0]]), acrosses.index(row[pair[1]])) for row in rows}
    return HeatMap(
        down=SETTING_NAMES[pair[0]],
        across=SETTING_NAMES[pair[1]],
        rows=[_label(pair[0], value) for value in downs],
        columns=[_label(pair[1], value) for value in acrosses],
        cells=[[_cell(found.get((down, across))) for across in acrosses] for down in downs],
        marked=places.get(winner["id"]),
        limit=limit,
    )


def _values(rows: list[Row], key: str) -> list[Any]:
    """The values of a setting in order; the bare base before the first checkpoint."""
    return sorted({row[key] for row in rows}, key=lambda value: (value is not None, value))


def _label(key: str, value: Any) -> str:
    return ("no LoRA" if value is None else f"epoch {value}") if key == "epoch" else plain(value)


def _cell(row: Row | None) -> HeatCell:
    if row is None or not finite(row["composite"]):
        return HeatCell(None, None, "not measured")
    title = (
        f"{inference_phrase(row)}, from timestep {row['start_timestep']}: {signed(row['composite'], 2)} points; "
        f"PSNR-Y {number(row['psnr_y'], 2)} dB, SSIM-Y {number(row['ssim_y'], 3)}, "
        f"{row['perceptual_name']} {number(row['perceptual'], 3)}"
    )
    if row["dropped_after"] is not None:
        title = f"left the race after {counted(row['dropped_after'], 'photograph')}; on these: {title}"
    if row["feasible"] is False:
        title += "; does not meet the constraints"
    return HeatCell(row["composite"], row["dropped_after"], title)
