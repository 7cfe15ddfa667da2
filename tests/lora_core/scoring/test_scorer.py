"""The scorer: nothing is scored twice, in any order, through any damage."""

import logging
from pathlib import Path

import pytest

from lora_core.errors import DataError
from lora_core.files import read_json, write_json
from lora_core.images import write_png
from lora_core.metrics import psnr_y
from lora_core.scoring import Scorer, score_pair
from lora_core.workspace import StudyFolder
from tests.lora_core.scoring.small_round import CELLS, GMSD, IDS, PHOTOS, made_by

NAMES = list(PHOTOS)
CELL = CELLS[1]


def kept_file(study: StudyFolder, cell: str) -> Path:
    (path,) = study.scores.glob(f"{cell}-*.json")
    return path


def test_rows_are_the_scores_of_the_pictures(study: StudyFolder) -> None:
    scorer = Scorer(study, NAMES, GMSD)
    rows = scorer.rows(CELL["id"], ["coffee", "cat"])
    assert [(row["id"], row["photo"]) for row in rows] == [(CELL["id"], "coffee"), (CELL["id"], "cat")]
    for row in rows:
        photo = PHOTOS[row["photo"]]
        expected = score_pair(made_by(CELL, photo), photo, scorer.perceptual)
        assert row == {"id": CELL["id"], "photo": row["photo"], **expected}
        assert row["psnr_y"] == pytest.approx(psnr_y(made_by(CELL, photo), photo), abs=1e-10)


def test_only_what_is_new_is_scored(study: StudyFolder, scored: list[None]) -> None:
    """As the stages of a race ask: ever more photographs of ever fewer cells."""
    scorer = Scorer(study, NAMES, GMSD)
    first = scorer.many(IDS, NAMES[:1])
    assert len(scored) == len(IDS)
    second = scorer.many(IDS[:4], NAMES[:2])
    assert len(scored) == len(IDS) + 4
    assert {cell: rows[0] for cell, rows in second.items()} == {cell: first[cell][0] for cell in IDS[:4]}
    scorer.many(IDS[:4], NAMES[:2])
    assert len(scored) == len(IDS) + 4
    other_process = Scorer(study, NAMES, GMSD)
    assert other_process.many(IDS[:4], NAMES[:2]) == second
    assert len(scored) == len(IDS) + 4
    other_process.rows(IDS[0], NAMES)
    assert len(scored) == len(IDS) + 5


def test_the_order_of_asking_leaves_the_same_file(study: StudyFolder) -> None:
    Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES)
    path = kept_file(study, CELL["id"])
    at_once = path.read_bytes()
    path.unlink()
    scorer = Scorer(study, NAMES, GMSD)
    for name in reversed(NAMES):
        scorer.rows(CELL["id"], [name])
    assert path.read_bytes() == at_once


@pytest.mark.parametrize("damage", ["not JSON", "another number", "another shape", "cut short"])
def test_damaged_scores_are_named_and_computed_again(
    damage: str, study: StudyFolder, scored: list[None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES)
    path = kept_file(study, CELL["id"])
    whole = path.read_bytes()
    content = read_json(path)
    if damage == "another number":
        content["rows"]["cat"]["scores"]["psnr_y"] = 99.0
    write_json(path, content if damage == "another number" else ["rows"])
    if damage == "cut short":
        path.write_bytes(whole[:200])
    if damage == "not JSON":
        path.write_text("{", encoding="utf-8")
    scored.clear()
    with caplog.at_level(logging.WARNING):
        assert Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES) == expected
    assert len(scored) == 3
    assert f"{path} are damaged" in caplog.text
    assert path.read_bytes() == whole


def test_other_pictures_are_other_scores(study: StudyFolder, scored: list[None]) -> None:
    Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES)
    write_png(study.cells / CELL["id"] / "cat.png", made_by(CELLS[0], PHOTOS["cat"]))
    scored.clear()
    Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES)
    assert len(scored) == 1
    write_png(study.root / "test" / "original" / "coffee.png", PHOTOS["coffee"][::-1].copy())
    scored.clear()
    Scorer(study, NAMES, GMSD).rows(CELL["id"], NAMES)
    assert len(scored) == 1


def test_a_photograph_without_its_original_is_named_at_once(study: StudyFolder) -> None:
    (study.root / "test" / "original" / "cat.png").unlink()
    with pytest.raises(DataError, match=r"original/cat\.png: No such file"):
        Scorer(study, NAMES, GMSD)
