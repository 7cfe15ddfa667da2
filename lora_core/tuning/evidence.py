"""A round's tables and training log as numbers to judge by: paired differences with their noise, and the loss curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import Experiment, ScoringSection
from lora_core.scoring import POINT, rank

NOISE = 2.0
"""Standard errors that count as noise: about 95 % of the differences that are none stay below."""

METRIC_FLOORS = {"psnr_y": 0.05, "perceptual": 0.01}
"""Gains too small to matter whatever their noise: dB, and share of the input's distance."""

LOSS_ROWS = 12
"""Rows below which a loss curve is not judged: each third needs four for a mean and a spread."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A mean over the test photographs, and the size below which it may be chance.

    Attributes:
        mean: mean of the paired differences.
        noise: `NOISE` standard errors of it, at least the smallest difference that counts.
    """

    mean: float
    noise: float

    @property
    def better(self) -> bool:
        """Whether it is above the noise."""
        return self.mean > self.noise

    @property
    def worse(self) -> bool:
        """Whether it is below the noise."""
        return self.mean < -self.noise


class Scores:
    """The two score tables of a round."""

    def __init__(self, experiment: Experiment, table: pl.DataFrame, photo_table: pl.DataFrame) -> None:
        """Reads the rows.

        Args:
            experiment: the round's.
            table: `scores.parquet`.
            photo_table: `scores_by_photo.parquet`.

        Raises:
            DataError: a LoRA cell or the degraded input is missing.
        """
        self.rows: list[Row] = table.to_dicts()
        self._smallest = experiment.tuning.min_improvement
        lora, self.input = self.of_kind("lora"), self.reference("input")
        if not lora or self.input is None:
            raise DataError("the round's table holds no LoRA cell or no degraded input; score the round again")
        self.winner = max(lora, key=lambda row: (row.get("dropped_after") is None, *rank(row)))
        self._photos = {str(key[0]): group.sort("photo") for key, group in photo_table.group_by("id")}
        self._scoring = experiment.scoring

    def of_kind(self, kind: str) -> list[Row]:
        """The rows of one kind."""
        return [row for row in self.rows if row["kind"] == kind]

    def reference(self, name: str) -> Row | None:
        """A reference row by name."""
        return next((row for row in self.of_kind("reference") if row["name"] == name), None)

    @property
    def base(self) -> Row | None:
        """The best row of the base without a LoRA."""
        return _best(rows) if (rows := self.of_kind("base")) else None

    @property
    def classical(self) -> Row | None:
        """The best classical method."""
        rows = [row for row in self.of_kind("reference") if row["name"] not in ("input", "autoencoder")]
        return _best(rows) if rows else None

    def along(self, axis: str) -> list[Row]:
        """The best LoRA row at each value of an axis (epoch, strength, detail_return ...), in order of the values."""
        rows = self.of_kind("lora")
        values = sorted({row[axis] for row in rows})
        return [_best([row for row in rows if row[axis] == value]) for value in values]

    def peak(self, curve: Sequence[Row]) -> int:
        """The place of the best row of `along`; composites of different photographs are not compared."""
        return curve.index(_best(curve))

    def difference(self, row: Row, other: Row) -> Difference:
        """How many points of the composite `row` is above `other`, on the photographs that both have."""
        first, second = self._points(row), self._points(other)
        differences = np.array([first[photo] - second[photo] for photo in first if photo in second])
        return Difference(float(differences.mean()), max(_noise(differences), self._smallest))

    def gain(self, metric: str) -> Difference:
        """The winner's gain over the input in one metric: dB, or the share of the input's distance."""
        gains = self._gains(self.winner, metric)
        return Difference(float(gains.mean()), max(_noise(gains), METRIC_FLOORS[metric]))

    @property
    def _input_id(self) -> str:
        assert self.input is not None
        return str(self.input["id"])

    def _points(self, row: Row) -> dict[str, float]:
        """Composite of each photograph that the row has; their mean is the row's composite."""
        weights = _weights(self._scoring)
        points = sum(weight * self._gains(row, metric) / POINT[metric] for metric, weight in weights.items())
        photos = self._photos[row["id"]]["photo"].to_list()
        return dict(zip(photos, (np.asarray(points) / sum(weights.values())).tolist(), strict=True))

    def _gains(self, row: Row, metric: str) -> np.ndarray:
        """Gains over the input of the row's photographs; perceptual ones are relative to the mean of all inputs."""
        candidate, start = self._photos[row["id"]], self._photos[self._input_id]
        inputs = dict(zip(start["photo"], start[metric], strict=True))
        gains = candidate[metric].to_numpy() - np.array([inputs[photo] for photo in candidate["photo"]])
        return -gains / float(start[metric].mean()) if metric == "perceptual" else gains  # type: ignore[arg-type]


class LossCurve:
    """The training loss over images seen, judged against itself alone: its scale means nothing across objectives."""

    def __init__(self, train_log: Sequence[Row]) -> None:
        """Takes the rows of `training/log.jsonl`, at least `LOSS_ROWS`."""
        self.images = np.array([row["images"] for row in train_log], np.float64)
        self.loss = np.array([row["loss"] for row in train_log], np.float64)
        self._third = len(train_log) // 3
        self._head = max(3, len(train_log) // 10)

    @property
    def finite(self) -> bool:
        """Whether every loss is a number."""
        return bool(np.isfinite(self.loss).all())

    @property
    def first(self) -> float:
        """Mean of the first tenth: the loss of the adapter that has learnt nothing yet."""
        return float(self.loss[: self._head].mean())

    @property
    def last(self) -> float:
        """Mean of the last third."""
        return float(self.loss[-self._third :].mean())

    @cached_property
    def _spread(self) -> float:
        """Standard deviation of a row about the straight line through the last third."""
        return _fit(self.images[-self._third :], self.loss[-self._third :])[2]

    @property
    def fall(self) -> Difference:
        """From the first tenth to the last third; its noise comes from the last third's own spread."""
        return Difference(self.first - self.last, NOISE * self._spread * (1 / self._head + 1 / self._third) ** 0.5)

    @property
    def rise(self) -> Difference:
        """From the lower of the first two thirds to the last."""
        low = min(self.loss[: self._third].mean(), self.loss[self._third : -self._third].mean())
        return Difference(self.last - float(low), NOISE * self._spread * (2 / self._third) ** 0.5)

    @property
    def end_slope(self) -> Difference:
        """Slope of the last third, per image."""
        slope, error, _ = _fit(self.images[-self._third :], self.loss[-self._third :])
        return Difference(slope, NOISE * error)

    @property
    def mean_slope(self) -> float:
        """Slope from the first tenth to the last third, per image."""
        way = self.images[-self._third :].mean() - self.images[: self._head].mean()
        return float((self.last - self.first) / way)


def _best(rows: Sequence[Row]) -> Row:
    """The best of those that the race kept longest; what it dropped early is known on few photographs."""
    return max(rows, key=lambda row: (row["photos"], row["composite"]))


def _weights(scoring: ScoringSection) -> dict[str, float]:
    return {
        "psnr_y": scoring.psnr_weight,
        "ssim_y": scoring.ssim_weight,
        "perceptual": scoring.perceptual_weight,
    }


def _noise(differences: np.ndarray) -> float:
    """`NOISE` standard errors of the mean; one photograph shows no spread, so nothing but a floor is left."""
    return NOISE * float(differences.std(ddof=1)) / len(differences) ** 0.5 if len(differences) > 1 else 0.0


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Least-squares line: its slope, the slope's standard error, and the standard deviation about the line."""
    centred = x - x.mean()
    slope = float((centred * y).sum() / (centred**2).sum())
    residual = y - y.mean() - slope * centred
    spread = float(((residual**2).sum() / (len(x) - 2)) ** 0.5)
    return slope, spread / float((centred**2).sum()) ** 0.5, spread
