import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from lora_core.degradation import degrade, degrade_folder, degraded_variant, folder
from lora_core.degradation.manifest import Journal
from lora_core.degradation.presets import RECIPES
from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.experiment import DegradationSection
from lora_core.images import list_photos, read_rgb, write_image
from lora_core.share import Share

POCKET = DegradationSection(preset="pocket", seed=3)

FILES = {
    "astronaut": "b photo.PNG",
    "chelsea": "a-ünïcode.webp",
    "coffee": "c.jpg",
    "motorcycle": "写真.tif",
    "rocket": "d.bmp",
}


@pytest.fixture
def clean(tmp_path: Path, photos: Path) -> Path:
    """Five photographs of five kinds."""
    place = tmp_path / "clean"
    place.mkdir()
    for stem, name in FILES.items():
        write_image(place / name, read_rgb(next(photos.glob(f"{stem}*"))))
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def records(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "degradation.jsonl").read_text(encoding="utf-8").splitlines()]


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_degraded_once(clean: Path, tmp_path: Path) -> None:
    originals, seen = contents(clean), []
    twins = tmp_path / "reg" / "1_"
    first = degrade_folder(list_photos(clean), twins, POCKET, 2, lambda done, total: seen.append((done, total)))
    made = contents(twins)
    assert names(first.made) == sorted(FILES.values()) and not (first.kept or first.unreadable or first.surplus)
    assert seen == [(number, 5) for number in range(1, 6)]
    assert set(made) == {*FILES.values(), "degradation.jsonl"}
    assert contents(clean) == originals

    for name in FILES.values():
        expected = degraded_variant(clean / name, POCKET, 0)
        twin = read_rgb(twins / name)
        assert np.abs(twin.astype(int) - expected).mean() <= (1.5 if name.endswith(".jpg") else 0)
        assert not np.array_equal(expected, degraded_variant(clean / name, POCKET, 1))
    rows = records(twins)
    assert [row["file"] for row in rows] == sorted(FILES.values())
    for row in rows:
        assert row["source"] == sha256(originals[row["file"]]).hexdigest()
        assert row["output"] == sha256(made[row["file"]]).hexdigest()
        assert (row["preset"], row["seed"]) == ("pocket", 3)
        rgb = read_rgb(clean / row["file"])
        assert row["parameters"] == degrade(rgb, "pocket", row["source"], 3).parameters

    second = degrade_folder(list_photos(clean), twins, POCKET)
    assert (second.made, names(second.kept)) == ((), sorted(FILES.values()))
    assert contents(twins) == made
    degrade_folder(list_photos(clean)[::-1], tmp_path / "again", POCKET, 1)
    assert contents(tmp_path / "again") == made, "the same bytes, whatever the order and the number of workers"


def test_only_what_changed_is_made_again(clean: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    degrade_folder(list_photos(clean), twins, POCKET)
    intact = contents(twins)

    (twins / "d.bmp").unlink()
    write_image(twins / "b photo.PNG", np.zeros((8, 8, 3), np.uint8))
    mended = degrade_folder(list_photos(clean), twins, POCKET)
    assert names(mended.made) == ["b photo.PNG", "d.bmp"] and contents(twins) == intact

    write_image(clean / "c.jpg", read_rgb(clean / "d.bmp"))
    assert names(degrade_folder(list_photos(clean), twins, POCKET).made) == ["c.jpg"]

    for section in (DegradationSection(preset="pocket", seed=4), DegradationSection(preset="light", seed=4)):
        assert len(degrade_folder(list_photos(clean), twins, section).made) == 5


def test_a_changed_recipe_is_made_again(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    degrade_folder(list_photos(clean), tmp_path / "twins", POCKET)
    monkeypatch.setitem(RECIPES, "pocket", RECIPES["single"])
    assert len(degrade_folder(list_photos(clean), tmp_path / "twins", POCKET).made) == 5


KILLED = """
import os, sys
from pathlib import Path
from lora_core.degradation import degrade_folder
from lora_core.experiment import DegradationSection
from lora_core.images import list_photos
assert "torch" not in sys.modules
degrade_folder(list_photos(Path(sys.argv[1])), Path(sys.argv[2]), DegradationSection(preset="pocket", seed=3), 1,
               lambda done, total: os._exit(9) if done == 3 else None)
"""


def test_a_killed_run_loses_nothing_and_goes_on(clean: Path, tmp_path: Path) -> None:
    twins, undisturbed = tmp_path / "twins", tmp_path / "undisturbed"
    degrade_folder(list_photos(clean), undisturbed, POCKET)
    command = [sys.executable, "-c", KILLED, str(clean), str(twins)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    saved = {path.name: path.stat().st_mtime_ns for path in list_photos(twins)}
    assert len(saved) >= 3
    with (twins / ".degradation.journal").open("a") as journal:
        journal.write('{"file": "写真.tif", "sou')  # a kill in the middle of a line

    with pytest.raises(KeyboardInterrupt):
        degrade_folder(list_photos(clean), twins, POCKET, 1, interrupt)
    resumed = degrade_folder(list_photos(clean), twins, POCKET)
    assert set(saved) <= set(names(resumed.kept))
    assert {name: (twins / name).stat().st_mtime_ns for name in saved} == saved
    assert contents(twins) == contents(undisturbed)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", [(Journal, "add"), (folder, "write_with")])
def test_a_kill_between_record_and_twin_leaves_no_stranger(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]
) -> None:
    """Whatever is on the disk without a record would count as the user's own file and stop the next run."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*step, interrupt)
        degrade_folder(list_photos(clean), tmp_path / "twins", POCKET, 1)
    assert len(degrade_folder(list_photos(clean), tmp_path / "twins", POCKET, 1).made) == 5


@pytest.mark.parametrize("name", ["c.jpg", "c.png"])
def test_the_users_own_files_are_never_overwritten(clean: Path, tmp_path: Path, name: str) -> None:
    twins = tmp_path / "twins"
    twins.mkdir()
    write_image(twins / name, np.full((4, 4, 3), 77, np.uint8))
    write_image(twins / "unrelated.png", np.full((4, 4, 3), 78, np.uint8))
    before = contents(twins)
    with pytest.raises(DataError, match=r"never overwritten; set degradation\.preset=own") as caught:
        degrade_folder(list_photos(clean), twins, POCKET)
    assert str(caught.value).startswith(str(twins / name))
    assert contents(twins) == before

    (twins / name).unlink()
    done = degrade_folder(list_photos(clean), twins, POCKET)
    assert (len(done.made), names(done.surplus)) == (5, ["unrelated.png"])
    assert (twins / "unrelated.png").read_bytes() == before["unrelated.png"]


def test_a_twin_whose_photograph_vanished_is_reported_and_left(clean: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    degrade_folder(list_photos(clean), twins, POCKET)
    before = contents(twins)
    (clean / "c.jpg").rename(tmp_path / "c.jpg")
    for _ in range(2):
        assert names(degrade_folder(list_photos(clean), twins, POCKET).surplus) == ["c.jpg"]
        assert contents(twins) == before, "its record stays as well"
    (tmp_path / "c.jpg").rename(clean / "c.jpg")
    back = degrade_folder(list_photos(clean), twins, POCKET)
    assert (back.made, back.surplus, len(back.kept)) == ((), (), 5)


def test_one_unreadable_photograph_is_listed_and_none_readable_is_fatal(clean: Path, tmp_path: Path) -> None:
    (clean / "broken.jpg").write_bytes((clean / "c.jpg").read_bytes()[:2000])
    done = degrade_folder(list_photos(clean), tmp_path / "twins", POCKET)
    assert len(done.made) == 5
    assert [(problem.path.name, "truncated" in problem.reason) for problem in done.unreadable] == [("broken.jpg", True)]
    with pytest.raises(DataError, match=r"none of the 2 photographs can be read; the first: .*broken\.jpg"):
        degrade_folder([clean / "broken.jpg", clean / "absent.jpg"], tmp_path / "other", POCKET)
    assert not list_photos(tmp_path / "other")


def test_folders_that_cannot_be_done_are_refused_untouched(clean: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(clean / "c.jpg", more / "c.jpeg")
    (tmp_path / "file").write_bytes(b"")
    before = contents(clean)
    for photos, destination, kind, message in (
        ([], tmp_path / "twins", DataError, "no photographs"),
        ([*list_photos(clean), more / "c.jpeg"], tmp_path / "twins", DataError, r"c\.jpg and .*c\.jpeg would have one"),
        (list_photos(clean), clean, DataError, "need a folder of their own"),
        (list_photos(clean), tmp_path / "more" / ".." / "clean", DataError, "need a folder of their own"),
        (list_photos(clean), tmp_path / "file", ResourceError, "cannot write"),
    ):
        with pytest.raises(kind, match=message):
            degrade_folder(photos, destination, POCKET)
    with pytest.raises(ConfigError, match="'own' is no recipe"):
        degrade_folder(list_photos(clean), tmp_path / "twins", DegradationSection(preset="own"))
    assert contents(clean) == before and not (tmp_path / "twins").exists()


def test_a_spoiled_manifest_says_what_to_do(clean: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    degrade_folder(list_photos(clean), twins, POCKET)
    with (twins / "degradation.jsonl").open("a") as manifest:
        manifest.write("no record\n")
    with pytest.raises(DataError, match=r"degradation\.jsonl, line 6: .*move the degraded photographs"):
        degrade_folder(list_photos(clean), twins, POCKET)


def test_large_photographs_wait_for_room(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_PIXELS_AT_ONCE", 1)
    assert len(degrade_folder(list_photos(clean), tmp_path / "twins", POCKET, workers=4).made) == 5


def test_parts_make_what_the_whole_makes_and_a_killed_part_goes_on(clean: Path, tmp_path: Path) -> None:
    photos, parts = list_photos(clean), tmp_path / "parts"
    degrade_folder(photos, tmp_path / "whole", POCKET)
    first = degrade_folder(photos, parts, POCKET, share=Share(0, 2))
    assert len(first.made) == 3 and not (parts / "degradation.jsonl").exists()
    journal = parts / ".degradation.0-of-2.journal"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    (parts / json.loads(lines[2])["file"]).unlink()
    journal.write_text("".join(lines[:2]) + lines[2][:40], encoding="utf-8")  # cut by a kill, its twin not in place
    assert len(degrade_folder(photos, parts, POCKET, share=Share(1, 2)).made) == 2
    assert len(degrade_folder(photos, parts, POCKET, share=Share(0, 2)).made) == 1
    done = degrade_folder(photos, parts, POCKET)
    assert not done.made and len(done.kept) == 5
    assert contents(parts) == contents(tmp_path / "whole")
