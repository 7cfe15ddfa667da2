"""The further columns: for whole cells only, kept, in batches of one size, and never a mean over some photographs."""

import numpy as np
import polars as pl
import pytest

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection, apply_overrides
from lora_core.images import write_png
from lora_core.metrics import appearance, gmsd
from lora_core.metrics.registry import Opened
from lora_core.scoring import columns, score_round
from lora_core.scoring.columns import Columns
from lora_core.scoring.pictures import Originals
from lora_core.workspace import StudyFolder, Workspace
from tests.lora_core.scoring.small_round import CELLS, EXPERIMENT, IDS, PHOTOS, drop_after, made_by

CELL = CELLS[1]


def opened(study: StudyFolder, *names: str) -> Columns:
    return Columns(study, Originals.of(study, list(PHOTOS)), ScoringSection(metrics=names))  # type: ignore[arg-type]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Every batch that a metric measured: its name and shape."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    real = Opened.__getattribute__

    def watched(self: Opened, name: str) -> object:
        value = real(self, name)
        if name != "measure":
            return value

        def measure(restored: np.ndarray, originals: np.ndarray) -> np.ndarray:
            seen.append((real(self, "name"), restored.shape))
            return value(restored, originals)

        return measure

    monkeypatch.setattr(Opened, "__getattribute__", watched)
    return seen


def test_columns_of_a_round(workspace: Workspace, study: StudyFolder) -> None:
    experiment = apply_overrides(EXPERIMENT, ["scoring.metrics=[gmsd, ciede2000]"])
    drop_after(study, "epoch-10-high", 2)
    result = score_round(workspace, experiment, 0)
    table = pl.read_parquet(study.round(0).table)
    photos = pl.read_parquet(study.round(0).photo_table)
    further = ["colour_shift", "sharpness", "gmsd", "ciede2000"]
    assert table.columns[-4:] == photos.columns[-4:] == further
    dropped = table.filter(pl.col("id") == "epoch-10-high").select(further).row(0)
    assert dropped == (None,) * 4
    assert photos.filter(pl.col("id") == "epoch-10-high").select(further).rows() == [(None,) * 4] * 2
    row = table.filter(pl.col("id") == CELL["id"]).row(0, named=True)
    for name, metric in (("gmsd", gmsd), ("ciede2000", appearance.ciede2000), ("sharpness", appearance.sharpness)):
        values = [metric(made_by(CELL, photo), photo) for photo in PHOTOS.values()]
        assert row[name] == pytest.approx(np.mean(values), abs=1e-12)
        of_cell = photos.filter(pl.col("id") == CELL["id"])[name].to_list()
        assert of_cell == pytest.approx(values, abs=1e-12)
    assert result["left_out"] == {}
    meanings = pl.read_parquet_metadata(study.round(0).table)
    assert set(further) < set(meanings)


def test_a_metric_that_one_photograph_is_too_small_for_is_left_out_aloud(
    workspace: Workspace, study: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    result = score_round(workspace, EXPERIMENT, 0)
    reason = "MS-SSIM needs pictures of at least 161x161 pixels and astronaut has 80x72"
    assert reason in caplog.text and reason in result["left_out"]["ms_ssim"]
    table = pl.read_parquet(study.round(0).table)
    assert table["ms_ssim"].null_count() == len(IDS) and table["ciede2000"].null_count() == 0
    assert reason in pl.read_parquet_metadata(study.round(0).table)["ms_ssim"]


def test_measured_once_and_only_what_is_missing(study: StudyFolder, batches: list[tuple[str, tuple[int, ...]]]) -> None:
    found = opened(study, "gmsd").each([CELL["id"]])
    assert len(batches) == 3 * 3  # three sizes; two diagnostics and one metric
    assert opened(study, "gmsd").each([CELL["id"]]) == found
    assert len(batches) == 3 * 3
    opened(study, "gmsd", "ssim_skimage").each([CELL["id"]])
    assert [name for name, _ in batches[9:]] == ["ssim_skimage"] * 3


def test_pictures_of_one_size_share_a_batch_of_limited_size(
    study: StudyFolder, batches: list[tuple[str, tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (64, 60, 3)
    for name in PHOTOS:
        for folder in (study.root / "test" / "original", study.cells / CELL["id"]):
            write_png(folder / f"{name}.png", np.random.default_rng(len(name)).integers(0, 256, shape, np.uint8))
    whole = opened(study).each([CELL["id"]])
    assert {shape for _, shape in batches} == {(3, 64, 60, 3)}
    for path in study.scores.iterdir():
        path.unlink()
    batches.clear()
    monkeypatch.setattr(columns, "BATCH_PIXELS", 2 * 64 * 60)
    assert opened(study).each([CELL["id"]]) == whole
    assert sorted({shape for _, shape in batches}) == [(1, 64, 60, 3), (2, 64, 60, 3)]


def test_a_number_that_is_not_finite_is_an_error(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    further = opened(study, "gmsd")
    broken = Opened("gmsd", "broken", lambda restored, originals: np.full(len(restored), np.nan))
    further.opened = [broken]
    with pytest.raises(DataError, match=r"gmsd of .*astronaut\.png is nan"):
        further.each([CELL["id"]])
    assert not list(study.scores.glob("*gmsd*")) if study.scores.exists() else True
