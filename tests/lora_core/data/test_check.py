"""What cannot be trained on is named before the first costly second; what can is reported."""

import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from lora_core.data.check import check_data, check_twins
from lora_core.data.pairs import prior_pairs, training_pairs
from lora_core.errors import DataError
from lora_core.experiment import apply_overrides, load_preset
from lora_core.images import list_photos, photo_size, read_rgb, write_png
from lora_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path, photos):
    place = Workspace(tmp_path)
    place.create()
    for number, path in enumerate(list_photos(photos)):
        folder = place.targets if number < 3 else place.prior / "2_photo"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    for path in list_photos(place.targets):
        shutil.copy(path, place.degraded)
    return place


def settings(*values):
    return apply_overrides(load_preset("pocket"), ["data.resolution=64", "data.bucket_step=32", *values])


def mask(workspace, name, size=(128, 144)):
    workspace.masks.mkdir(exist_ok=True)
    write_png(workspace.masks / name, np.full((*size, 3), 200, np.uint8))


def test_the_report_says_what_the_photographs_are(workspace):
    everything = ["data.captions=files", "data.missing_caption=prompt", "objective.prior_images=0.5",
                  "data.framing=bucket", "data.masks=folder", "training.batch=4", "training.epochs=1"]  # fmt: skip
    for path in list_photos(workspace.targets):
        mask(workspace, path.name)
    (workspace.targets / "coffee.txt").write_text("a cup")
    report = check_data(workspace, settings(*everything))
    assert (report.photos, report.visits, report.captions, report.uncaptioned) == (3, 30, 2, 7)
    assert (report.masks, report.prior, report.unread) == (3, 5, 0)
    assert [(str(row.bucket), row.views, row.filled) for row in report.buckets] == [("64x64", 30, 2)]
    assert any("7 photographs have no caption" in line for line in report.lines()) and len(report.lines()) == 7
    unread = check_data(workspace, settings())
    assert unread.unread == 1 and "1 files with captions are not read" in " ".join(unread.lines())
    assert len(prior_pairs(workspace, settings(*everything))) == 5 and prior_pairs(workspace, settings()) == []


def _masks_of_all_but(workspace, left_out):
    for path in list_photos(workspace.targets):
        if path.stem != left_out:
            mask(workspace, path.name)


@pytest.mark.parametrize(("values", "harm", "reason"), [
    (["data.captions=files"], lambda w: None, r"astronaut\.png has no caption \(and 2 more\); write astronaut"),
    (["data.captions=files"], lambda w: (w.targets / "x.txt").write_text("x"), "no photograph 'x'"),
    (["data.masks=folder"], lambda w: None, "masks does not exist"),
    (["data.masks=folder"], lambda w: _masks_of_all_but(w, "chelsea"), r"chelsea\.png has no mask in"),
    (["data.masks=folder"], lambda w: (_masks_of_all_but(w, ""), mask(w, "x.png")), r"x\.png is the mask of no photo"),
    (["data.masks=folder"], lambda w: (_masks_of_all_but(w, "coffee"), mask(w, "coffee.png", (9, 8))),
     r"coffee\.png is 8x9, its photograph .*coffee\.png 144x128"),
    (["data.masks=alpha"], lambda w: None, r"astronaut\.png has no alpha channel \(and 2 more\)"),
    (["data.resolution=192"], lambda w: None, r"astronaut\.png is 144x128 \(and 2 more\), smaller than"),
    (["data.resolution=72"], lambda w: None, "72 is not a multiple of 16"),
    (["data.framing=bucket", "data.bucket_ratio=1.1"], lambda w: None, "longer than data.bucket_ratio = 1.1"),
    (["data.framing=bucket", "data.resolution=160"], lambda w: None, r"smaller than its bucket 160x160"),
    (["objective.prior_images=1"], lambda w: shutil.rmtree(w.prior), "put clean photographs into .*1_photo, or set it"),
    (["objective.prior_images=1"], lambda w: [path.unlink() for path in w.prior.glob("*/*")], "no photographs in"),
    (["objective.prior_images=1"], lambda w: (w.prior / "2_photo").rename(w.prior / "photo"), "name it N_name"),
    (["objective.prior_images=1"], lambda w: write_png(w.prior / "2_photo" / "s.png", np.zeros((8, 8, 3), np.uint8)),
     r"s\.png is 8x8, smaller than"),
])  # fmt: skip
def test_what_cannot_be_trained_on_is_named_before_anything_is_made(workspace, values, harm, reason):
    harm(workspace)
    with pytest.raises(DataError, match=reason):
        check_data(workspace, settings(*values))


def test_alpha_is_found_by_the_header(workspace):
    for path in list_photos(workspace.targets):
        write_png(path, read_rgb(path), np.full((128, 144), 9, np.uint8))
    report = check_data(workspace, settings("data.masks=alpha"))
    pairs = training_pairs(workspace, settings("data.masks=alpha"))
    assert report.masks == 3 and all(pair.mask == pair.clean for pair in pairs)


def test_twins_of_another_size_are_named(workspace):
    pairs = training_pairs(workspace, settings())
    check_twins(pairs, workspace)
    write_png(pairs[1].degraded, np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(DataError, match=r"chelsea\.png is 12x10, its clean photograph .*chelsea\.png 144x128; make or"):
        check_twins(pairs, workspace)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_photograph(tmp_path, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for suffix in ("jpg", "png", "webp", "tif"):
        image.save(tmp_path / f"a.{suffix}", exif=exif)
    late = tmp_path / "late.png"  # the orientation after the pixels
    image.save(late)
    data, payload = late.read_bytes(), exif.tobytes()[6:]
    chunk = PngImagePlugin._crc32(b"eXIf" + payload).to_bytes(4, "big")
    late.write_bytes(data[:-12] + len(payload).to_bytes(4, "big") + b"eXIf" + payload + chunk + data[-12:])
    image.save(tmp_path / "plain.bmp")
    for path in list_photos(tmp_path):
        height, width = read_rgb(path).shape[:2]
        assert photo_size(path) == (width, height), path
        assert path.suffix == ".bmp" or (width > height) == (orientation < 5), path
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no\.png: not an image file"):
        photo_size(tmp_path / "no.png")
