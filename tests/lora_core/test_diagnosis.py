from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_preset, with_values
from lora_core.tuning.diagnosis import Finding, diagnose
from lora_core.tuning.evidence import Scores

PHOTOS = 12
METRICS = ("psnr_y", "ssim_y", "perceptual")
ONE_POINT = np.array([1.0, 0.04, 0.10])
INPUT = np.array([26.0, 0.75, 0.30])


@dataclass(frozen=True)
class Case:
    """A round by its curves; the defaults are a healthy one: every best lies inside its axis, the loss falls."""

    epochs: dict[int, float] = field(default_factory=lambda: {2: 1.98, 4: 2.0})
    strengths: dict[float, float] = field(default_factory=lambda: {0.05: -0.5, 0.1: 0.0, 0.2: -0.5})
    detail_returns: dict[float, float] = field(default_factory=lambda: {0.0: -0.5, 0.5: 0.0, 1.0: -0.5})
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    base: float = 0.2
    classical: float = 0.5
    autoencoder: float = 3.0
    photo_noise: float = 0.1
    photos: int = PHOTOS
    loss: Callable[[np.ndarray], np.ndarray] = lambda t: 1.0 - 0.5 * t
    loss_noise: float = 0.02
    loss_rows: int = 60
    stopped: str = "complete"
    settings: dict[str, Any] = field(default_factory=dict)

    def experiment(self) -> Experiment:
        grid = {"sweep.strengths": list(self.strengths), "sweep.detail_returns": list(self.detail_returns)}
        return with_values(load_preset("pocket"), {"training.epochs": 4, **grid, **self.settings})

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        random = np.random.default_rng(0)
        start = INPUT * (1 + 0.1 * random.standard_normal((self.photos, 1)))
        rows, photo_rows = [], []
        for cell, gains in self._cells():
            # Without a mean, so that the curves are exactly what the case says and only the spread is drawn.
            noise = random.standard_normal((self.photos, 1)) * (cell["name"] != "input")
            points = gains + self.photo_noise * (noise - noise.mean())
            change = points * ONE_POINT * (1, 1, -start[:, 2].mean())
            values = start + change
            gain = (values - start).mean(axis=0) / (1, 1, -start[:, 2].mean())
            means = dict(zip(METRICS, values.mean(axis=0), strict=True))
            rows.append({**cell, "photos": self.photos, **means, "composite": float((gain / ONE_POINT).mean())})
            photo_rows += [
                {"id": cell["id"], "photo": f"{place:02}", **dict(zip(METRICS, row, strict=True))}
                for place, row in enumerate(values)
            ]
        return pl.DataFrame(rows, infer_schema_length=None), pl.DataFrame(photo_rows).sample(
            fraction=1, shuffle=True, seed=1
        )

    def _cells(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        nothing = {"epoch": None, "strength": None, "start_noise": None, "detail_return": None}
        cells = [
            ({"id": name, "kind": "reference", "name": name, **nothing}, np.full(3, points))
            for name, points in (("input", 0.0), ("autoencoder", self.autoencoder), ("bilateral", self.classical))
        ]
        setting = {"strength": 0.1, "start_noise": 0.0, "detail_return": 0.5}
        cells.append(
            (
                {"id": "base", "kind": "base", "name": "base without LoRA", "epoch": None, **setting},
                np.full(3, self.base),
            )
        )
        for epoch, strength, detail in product(self.epochs, self.strengths, self.detail_returns):
            points = self.epochs[epoch] + self.strengths[strength] + self.detail_returns[detail]
            setting = {"epoch": epoch, "strength": strength, "start_noise": 0.5, "detail_return": detail}
            cell = {"id": f"{epoch} {strength} {detail}", "kind": "lora", "name": f"epoch {epoch}", **setting}
            cells.append((cell, points + np.array(self.tilt)))
        return cells

    def log(self) -> list[dict[str, Any]]:
        time = np.linspace(0, 1, self.loss_rows)
        loss = self.loss(time) + self.loss_noise * np.random.default_rng(1).standard_normal(self.loss_rows)
        return [{"images": 50 * (place + 1), "loss": float(value)} for place, value in enumerate(loss)]

    def findings(self) -> list[Finding]:
        done = {"stopped": self.stopped, "epochs": max(self.epochs)}
        return diagnose(self.experiment(), *self.tables(), self.log(), done)


def flat(time: np.ndarray) -> np.ndarray:
    return np.ones_like(time)


SICK = {
    "loss-diverged": Case(loss=lambda t: 1 - 0.5 * t + 2 * np.clip(t - 0.5, 0, None)),
    "does-not-beat-input": Case(epochs={2: 0.0, 4: 0.02}, base=-1.0, classical=-1.0),
    "learning-rate-too-low": Case(epochs={2: 0.21, 4: 0.21}, loss=flat, classical=-1.0),
    "does-not-beat-classical": Case(classical=2.5),
    "overfitting": Case(epochs={2: 1.0, 4: 2.0, 6: 1.4, 8: 1.0}, settings={"training.epochs": 8}),
    "still-improving": Case(epochs={2: 1.0, 4: 2.0}),
    "lowest-strength-best": Case(strengths={0.05: 0.0, 0.1: -0.5, 0.2: -1.0}),
    "highest-strength-best": Case(strengths={0.05: -1.0, 0.1: -0.5, 0.2: 0.0}),
    "autoencoder-ceiling": Case(autoencoder=-2.0),
    "detail-return-edge": Case(detail_returns={0.0: -1.0, 0.5: -0.5, 1.0: 0.0}),
    "residual-blur": Case(tilt=(1.0, 0.0, -4.0)),
    "residual-noise": Case(tilt=(-4.0, 0.0, 3.0)),
    "loss-plateau": Case(loss=lambda t: 0.5 + 0.5 * np.exp(-8 * t)),
}
ADVICE: dict[str, dict[str, Any]] = {
    "loss-diverged": {"training.learning_rate": {"low": 1e-4, "high": 5e-4}},
    "does-not-beat-input": {},
    "learning-rate-too-low": {"training.learning_rate": {"low": 2e-3, "high": 1e-2}},
    "does-not-beat-classical": {},
    "overfitting": {
        "training.epochs": {"low": 2, "high": 5},
        "training.learning_rate": {"low": 1e-4, "high": 1e-3},
        "adapter.rank": {"low": 8, "high": 32},
    },
    "still-improving": {"training.epochs": {"low": 4, "high": 8}},
    "lowest-strength-best": {"sweep.strengths": {"low": 0.0125, "high": 0.05}},
    "highest-strength-best": {"sweep.strengths": {"low": 0.2, "high": 0.4}},
    "autoencoder-ceiling": {},
    "detail-return-edge": {"sweep.detail_returns": {"low": 0.5, "high": 1.0}},
    "residual-blur": {"sweep.steps": {"low": 1, "high": 4}, "sweep.start_noises": {"low": 0.0, "high": 0.5}},
    "residual-noise": {"sweep.start_noises": {"low": 0.0, "high": 0.5}},
    "loss-plateau": {},
}


def test_a_healthy_round_has_nothing_wrong() -> None:
    (finding,) = Case().findings()
    assert finding.code == "nothing-wrong" and finding.advice == {}
    assert "epoch 4 at strength 0.1" in finding.says and "12 photographs" in finding.says


@pytest.mark.parametrize("code", SICK)
def test_each_finding_fires_alone_in_its_case(code: str) -> None:
    findings = SICK[code].findings()
    assert [finding.code for finding in findings] == [code]
    assert findings[0].advice == ADVICE[code]
    assert any(character.isdigit() for character in findings[0].says)


def test_the_most_decisive_comes_first() -> None:
    case = Case(
        epochs={2: -2.0, 4: -1.0},
        strengths={0.05: 0.0, 0.1: -0.5},
        loss=lambda t: 1 + t,
        autoencoder=-1.0,
    )
    codes = [finding.code for finding in case.findings()]
    assert codes == [
        "loss-diverged",
        "does-not-beat-input",
        "does-not-beat-classical",
        "still-improving",
        "lowest-strength-best",
        "autoencoder-ceiling",
    ]


@pytest.mark.parametrize("photo_noise", [3.0, 10.0])
def test_differences_within_the_noise_of_the_photographs_say_nothing(photo_noise: float) -> None:
    """The same curves as in 'still-improving', on photographs that disagree."""
    codes = {finding.code for finding in Case(epochs={2: 1.9, 4: 2.0}, photo_noise=photo_noise).findings()}
    assert not codes & {"still-improving", "overfitting", "lowest-strength-best", "highest-strength-best"}


def test_points_of_the_photographs_average_to_the_composite() -> None:
    case = Case(tilt=(1.0, -0.5, 2.0), photo_noise=1.0)
    scores = Scores(case.experiment(), *case.tables())
    assert scores.input is not None
    gain = scores.difference(scores.winner, scores.input).mean
    photo_points = scores._points(scores.winner)
    assert len(photo_points) == PHOTOS
    assert np.mean(list(photo_points.values())) == pytest.approx(gain) == pytest.approx(scores.winner["composite"])


@pytest.mark.parametrize(
    ("case", "code", "advice", "words"),
    [
        (
            Case(
                epochs={2: -0.5, 4: -0.5},
                classical=-1,
                settings={"objective.kind": "denoise", "sweep.start_noises": [0.5, 1.0]},
            ),
            "does-not-beat-input",
            {"objective.kind": {"choices": ["direct", "bridge"]}, "sweep.start_noises": {"low": 0.0, "high": 0.5}},
            "never saw what to undo",
        ),
        (
            Case(autoencoder=-2.0, detail_returns={0.0: 0.0}),
            "autoencoder-ceiling",
            {"sweep.detail_returns": {"low": 0.0, "high": 1.0}},
            "only detail return",
        ),
        (Case(epochs={2: 1.0, 4: 2.0}, stopped="time limit"), "still-improving", {}, "raise that"),
        (Case(loss=lambda t: np.where(t > 0.8, np.nan, 1.0)), "loss-diverged", ADVICE["loss-diverged"], "no number"),
    ],
)
def test_the_settings_of_the_round_shape_the_advice(case: Case, code: str, advice: dict[str, Any], words: str) -> None:
    finding = next(finding for finding in case.findings() if finding.code == code)
    assert finding.advice == advice
    assert words in finding.says


@pytest.mark.parametrize(
    "case",
    [
        Case(epochs={4: 2.0}),
        Case(strengths={0.1: 0.0}, detail_returns={1.0: 0.0}),
        Case(photos=1, photo_noise=0.0),
        Case(loss_rows=3),
        Case(strengths={0.5: -0.5, 1.0: 0.0}),
    ],
    ids=["one checkpoint", "one strength", "one photograph", "short log", "full strength"],
)
def test_what_cannot_be_judged_is_not_judged(case: Case) -> None:
    assert {finding.code for finding in case.findings()} <= {"nothing-wrong", "still-improving"}


def test_a_loss_that_only_rattles_is_neither_a_plateau_nor_diverged() -> None:
    codes = {finding.code for finding in Case(loss_noise=0.4).findings()}
    assert not codes & {"loss-plateau", "loss-diverged", "learning-rate-too-low"}


def test_a_table_without_lora_is_refused() -> None:
    case = Case()
    table, photo_table = case.tables()
    with pytest.raises(DataError, match="no LoRA cell"):
        diagnose(case.experiment(), table.filter(pl.col("kind") != "lora"), photo_table, case.log(), {})


def test_what_a_race_dropped_is_compared_on_the_photographs_that_both_saw() -> None:
    """A dropped cell that was lucky with its first photographs wins nothing, and is not the better neighbour."""
    case = Case(strengths={0.05: 0.0, 0.1: -0.5, 0.2: -0.9}, photo_noise=0.0)
    table, photo_table = case.tables()
    kept = sorted(photo_table["photo"].unique())[:5]
    dropped = [row["id"] for row in table.to_dicts() if row["kind"] == "lora" and " 0.05 " not in row["id"]]
    photo_table = photo_table.filter(~pl.col("id").is_in(dropped) | pl.col("photo").is_in(kept))
    lucky = pl.when(pl.col("id").is_in(dropped)).then
    table = table.with_columns(
        lucky(pl.lit(5)).otherwise(pl.col("photos")).alias("photos"),
        lucky(pl.lit(5)).otherwise(None).alias("dropped_after"),
        lucky(pl.col("composite") + 9).otherwise(pl.col("composite")).alias("composite"),
    )
    scores = Scores(case.experiment(), table, photo_table)
    assert scores.winner["strength"] == 0.05
    ladder = scores.along("strength")
    assert scores.difference(ladder[0], ladder[1]).mean == pytest.approx(0.5)
    findings = diagnose(case.experiment(), table, photo_table, case.log(), {"stopped": "complete", "epochs": 4})
    says = next(finding.says for finding in findings if finding.code == "lowest-strength-best")
    assert "+0.50 over 0.1" in says
