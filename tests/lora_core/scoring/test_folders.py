"""One folder of photographs against another."""

from pathlib import Path

import cv2
import pytest

from lora_core.errors import DataError
from lora_core.images import write_png
from lora_core.perceptual import choose_perceptual
from lora_core.scoring import score_folders, score_pair
from tests.lora_core.scoring.small_round import GMSD, PHOTOS, degraded


def test_score_folders(tmp_path: Path) -> None:
    for name, photo in PHOTOS.items():
        write_png(tmp_path / "original" / f"{name}.png", photo)
        write_png(tmp_path / "restored" / f"{name}.png", degraded(photo))
    (tmp_path / "restored" / "cat.png").unlink()
    cv2.imwrite(str(tmp_path / "restored" / "cat.jpg"), PHOTOS["cat"][..., ::-1])
    table = score_folders(tmp_path / "restored", tmp_path / "original", GMSD)
    assert table["photo"].to_list() == ["astronaut", "cat", "coffee", "mean of 3"]
    expected = score_pair(degraded(PHOTOS["coffee"]), PHOTOS["coffee"], choose_perceptual(GMSD))
    assert table.row(2, named=True) == {"photo": "coffee", **expected, "perceptual_name": "GMSD"}
    assert table["psnr_y"][3] == pytest.approx(table["psnr_y"][:3].mean(), abs=1e-12)


def test_score_folders_that_do_not_match(tmp_path: Path) -> None:
    original, restored = tmp_path / "original", tmp_path / "restored"
    restored.mkdir()
    for name in PHOTOS:
        write_png(original / f"{name}.png", PHOTOS[name])
    write_png(restored / "cat.png", PHOTOS["cat"])
    write_png(restored / "dog.png", PHOTOS["cat"])
    with pytest.raises(DataError, match=r"restored lacks astronaut, coffee; .*original has no original of dog"):
        score_folders(restored, original, GMSD)
    cv2.imwrite(str(restored / "cat.jpg"), PHOTOS["cat"])
    with pytest.raises(DataError, match=r"both cat\.jpg and cat\.png"):
        score_folders(restored, original, GMSD)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        score_folders(tmp_path / "nowhere", original, GMSD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no photographs"):
        score_folders(tmp_path / "empty", tmp_path / "empty", GMSD)
