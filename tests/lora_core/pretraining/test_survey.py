"""The survey of every kind of source: what is usable is in the manifest, what is not is named, and nothing is lost."""

import gzip
import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.pretraining.data.records import SETS, Record, read_bytes
from lora_core.pretraining.data.sources import hub
from lora_core.pretraining.data.sources.entry import Found
from lora_core.pretraining.data.sources.importing import Sample, imported
from lora_core.pretraining.data.sources.shards import shard_entries
from lora_core.pretraining.data.survey import Survey, survey
from tests.lora_core.pretraining.corpora import SIDE, image, recipe, samples, write, write_shard

GOOD = {f"ok{number}.jpg": image(number) for number in range(8)}
CAPTIONS = {name: f"caption of {name}" for name in GOOD}


def usable(result: Survey) -> list[Record]:
    """Every record of both sets, by name."""
    return sorted((record for name in SETS for record in result.records(name)), key=lambda record: record.name)


def rejects(result: Survey) -> dict[str, str]:
    """Reason by name, after checking that the counts say the same."""
    lines = [json.loads(line) for line in (result.folder / "rejects.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == result.rejected == sum(result.reasons.values())
    return {line["name"]: line["reason"] for line in lines}


def folder_with(path: Path, files: dict[str, bytes], captions: Any) -> Path:
    text = captions if isinstance(captions, bytes) else json.dumps(captions, ensure_ascii=False).encode()
    return write(path / "photos", {f"images/{name}": data for name, data in files.items()} | {"captions.json": text})


def test_captions_json(tmp_path: Path) -> None:
    root = folder_with(tmp_path, GOOD, CAPTIONS | {"ok1.jpg": ["one\nline", " two  "]})
    result = survey(recipe("folder", root), tmp_path / "s")
    records = usable(result)
    assert [record.name for record in records] == sorted(GOOD)
    assert [record.caption for record in records][:3] == ["caption of ok0.jpg", "one line\ntwo", "caption of ok2.jpg"]
    assert {(record.width, record.height) for record in records} == {(80, 64)}
    assert all(read_bytes(record.file, record.offset, record.length) == GOOD[record.name] for record in records)
    assert (result.train + result.validation, result.rejected) == (8, 0)
    assert result.train and result.validation


@pytest.mark.parametrize("below", ["images/", ""])
def test_text_beside_each_image(tmp_path: Path, below: str) -> None:
    files: dict[str, bytes | str] = {f"{below}{name}": data for name, data in GOOD.items()}
    files |= {f"{below}{name[:-4]}.txt": f"\ufefftext of\n{name}\r\n" for name in GOOD}
    files |= {f"{below}lonely.txt": "x", f"{below}bare.jpg": image(50), f"{below}latin.jpg": image(51)}
    files |= {f"{below}latin.txt": "Häuser".encode("latin-1"), f"{below}.hidden.jpg": b""}
    result = survey(recipe("folder", write(tmp_path / "photos", files)), tmp_path / "s")
    assert [record.caption for record in usable(result)] == [f"text of {name}" for name in sorted(GOOD)]
    assert rejects(result).keys() == {"lonely.txt", "bare.jpg", "latin.jpg"}
    assert result.reasons == {"caption without image": 1, "image without caption": 1, "wrong caption": 1}


def test_captions_in_any_unicode(tmp_path: Path) -> None:
    texts = [
        "Ein Café in Zürich",
        "一只猫",
        "собака бежит",
        "قطة سوداء",
        "👩‍👩‍👧 at the sea",
        "e\u0301tude",
        "हिन्दी",
        "\u2028x\u0000y",
    ]
    names = [f"{text.replace(chr(0), '').strip()}.jpg" for text in texts]
    captions = {unicodedata.normalize("NFC", name): text for name, text in zip(names, texts, strict=True)}
    files = {unicodedata.normalize("NFD", name): image(number) for number, name in enumerate(names)}
    result = survey(recipe("folder", folder_with(tmp_path, files, captions)), tmp_path / "s")
    assert {record.caption for record in usable(result)} == {" ".join(text.split()) for text in texts}
    assert not rejects(result)


# name: image or None for none, caption or None for none, then kind and a part of the reason
BAD: dict[str, tuple[bytes | None, Any, str, str]] = {
    "orphan.jpg": (None, "x", "caption without image", "there is no image"),
    "bare.jpg": (image(1), None, "image without caption", "has no caption"),
    "blank.jpg": (image(1), "  \n", "image without caption", "has no caption"),
    "null.jpg": (image(1), [], "image without caption", "has no caption"),
    "number.jpg": (image(1), 3, "wrong caption", "it is 3, no text"),
    "false.jpg": (image(1), False, "wrong caption", "it is false, no text"),
    "object.jpg": (image(1), {"text": "x"}, "wrong caption", 'it is {"text": "x"}, no text'),
    "mixed.jpg": (image(1), ["a", 3], "wrong caption", 'it is ["a", 3], no text'),
    "surrogate.jpg": (image(1), "half \ud83d", "not Unicode", "no valid Unicode"),
    "small.jpg": (image(1, 200, 50), "x", "too small", "is 200x50, below image_size 64"),
    "narrow.png": (image(1, 63, 200, "PNG"), "x", "too small", "is 63x200, below image_size 64"),
    "empty.jpg": (b"", "x", "undecodable image", "cannot be decoded"),
    "text.jpg": (b"<html>404</html>", "x", "undecodable image", "not an image file"),
    "cut.jpg": (image(1)[:40], "x", "undecodable image", "cannot be decoded"),
    "zeros.png": (bytes(5000), "x", "undecodable image", "not an image file"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_bad_record_is_named(tmp_path: Path, name: str) -> None:
    data, caption, kind, reason = BAD[name]
    files = GOOD | ({name: data} if data is not None else {})
    captions = CAPTIONS | ({name: caption} if caption is not None else {})
    table = json.dumps(captions).encode()  # with escapes, as a half of a pair cannot be written otherwise
    result = survey(recipe("folder", folder_with(tmp_path, files, table)), tmp_path / "s")
    assert result.reasons == {kind: 1}
    assert list(rejects(result)) == [name]
    assert reason in rejects(result)[name]
    assert result.train + result.validation == len(GOOD)


def test_all_bad_records_at_once_and_nothing_lost(tmp_path: Path) -> None:
    files = GOOD | {name: bad[0] for name, bad in BAD.items() if bad[0] is not None}
    captions = CAPTIONS | {name: bad[1] for name, bad in BAD.items() if bad[1] is not None}
    root = folder_with(tmp_path, files, json.dumps(captions).encode())
    seen: list[int] = []
    result = survey(recipe("folder", root), tmp_path / "s", seen.append)
    assert rejects(result).keys() == BAD.keys()
    assert result.train + result.validation + result.rejected == len(GOOD) + len(BAD) == seen[-1]
    with pytest.raises(DataError) as error:
        survey(recipe("folder", root, reject_limit=0.5), tmp_path / "s")
    for part in ("15 of 23", "4 undecodable image", "bare.jpg has no caption", "rejects.jsonl", "data.reject_limit"):
        assert part in str(error.value)
    assert (tmp_path / "s" / "rejects.jsonl").read_text().count("\n") == len(BAD)


def test_missing_captions_may_be_empty(tmp_path: Path) -> None:
    root = folder_with(tmp_path, GOOD | {"bare.jpg": image(20)}, CAPTIONS)
    result = survey(recipe("folder", root, missing_captions="empty"), tmp_path / "s")
    assert (result.without_caption, result.rejected) == (1, 0)
    assert usable(result)[0].caption == ""


def test_a_name_given_twice_is_named(tmp_path: Path) -> None:
    table = json.dumps(CAPTIONS)[:-1] + ', "ok1.jpg": "again"}'
    result = survey(recipe("folder", folder_with(tmp_path, GOOD, table.encode())), tmp_path / "s")
    assert result.reasons == {"duplicate name": 1}
    assert usable(result)[1].caption == "caption of ok1.jpg"


@pytest.mark.skipif(os.name != "posix", reason="other systems refuse such names")
def test_a_file_name_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", GOOD)
    (tmp_path / "photos" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(image(30))
    (tmp_path / "photos" / "dangling.jpg").symlink_to("nowhere")
    result = survey(recipe("classes", root), tmp_path / "s")
    assert result.reasons == {"not Unicode": 1, "undecodable image": 1}


@pytest.mark.parametrize("content", [b"[]", b"3", b'["ok1.jpg"]', b"{", b"\xff\xfe{}", b""])
@pytest.mark.parametrize("source", ["folder", "coco"])
def test_json_of_another_shape(tmp_path: Path, source: str, content: bytes) -> None:
    root = folder_with(tmp_path, GOOD, content)
    path = root if source == "folder" else root / "images"
    expected = "image1.jpg" if source == "folder" else "file_name"
    with pytest.raises(DataError, match=f"captions.json.*expected.*{expected}"):
        survey(recipe(source, path, annotations=str(root / "captions.json")), tmp_path / "s")


def test_class_named_files_and_folders(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"Afghan_hound.jpg": image(0), "123.jpg": image(1), "notes.md": "x"})
    write(root, {f"tabby_cat/{number}.png": image(number, kind="PNG") for number in range(8)})
    result = survey(recipe("classes", root), tmp_path / "s")
    captions = {record.name: record.caption for record in usable(result)}
    assert captions.pop("Afghan_hound.jpg") == "a photo of Afghan hound"
    assert captions.pop("123.jpg") == "a photo"
    assert captions == {f"tabby_cat/{number}.png": "a photo of tabby cat" for number in range(8)}


def coco(path: Path, images: list[Any], annotations: list[Any]) -> Path:
    table = json.dumps({"info": {}, "images": images, "annotations": annotations})
    files = {f"train2017/{name}": data for name, data in GOOD.items()}
    write(path / "coco", files | {"annotations/captions_train2017.json": table})
    return path / "coco" / "train2017"


def test_coco_keeps_all_captions_and_names_what_is_wrong(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(GOOD)]
    annotations = [{"image_id": number, "caption": f"{text} {number}"} for number in range(7) for text in "ab"]
    wrong = [{"image_id": 99, "caption": "x"}, {"caption": "x"}, "x"]
    missing = [{"id": 20, "file_name": "gone.jpg"}, {"id": 3, "file_name": "ok3.jpg"}, {"id": [1]}, 5]
    result = survey(recipe("coco", coco(tmp_path, images + missing, annotations + wrong)), tmp_path / "s")
    assert [record.caption for record in usable(result)] == [f"a {number}\nb {number}" for number in range(7)]
    assert result.rejected == len(wrong) + len(missing) + 1  # the last image has no caption
    assert result.reasons == {
        "caption without image": 4,
        "wrong caption": 2,
        "duplicate name": 1,
        "image without caption": 1,
    }


def test_coco_without_captions_is_refused(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "ok1.jpg"}]
    root = coco(tmp_path, images, [{"image_id": 1, "bbox": [1, 2, 3, 4]}])
    with pytest.raises(DataError, match=r"no captions; set data.annotations to a captions_"):
        survey(recipe("coco", root), tmp_path / "s")


def test_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "t" / "00001.tar", samples(10, 6))
    first = samples(0, 4) | {"x/y.z.jpg": image(7), "x/y.json": '{"caption": ["é", "b"], "url": ""}', "x/y.txt": ""}
    write_shard(tmp_path / "t" / "00000.tar", first)
    result = survey(recipe("shards", tmp_path / "t"), tmp_path / "s")
    assert len(usable(result)) == 10
    assert rejects(result) == {"00000.tar/x/y": "has a caption, but there is no image of that name"}
    record = usable(result)[5]
    assert (record.name, record.caption) == ("00001.tar/000011", "picture 11")
    assert read_bytes(record.file, record.offset, record.length) == image(11)
    one = survey(recipe("shards", tmp_path / "t" / "00001.tar"), tmp_path / "one")
    assert one.train + one.validation == 6


def test_samples_of_every_wrong_kind_in_a_shard(tmp_path: Path) -> None:
    bad: dict[str, bytes | str] = {
        "a.jpg": image(1),
        "b.txt": "caption",
        "c.cls": "3",
        "d.jpg": b"no image",
        "d.txt": "x",
        "e.jpg": image(2),
        "e.json": "[1]",
        "f.jpg": image(3),
        "f.json": "{",
        "g.jpg": image(4),
        "g.json": '{"caption": 7}',
        "h.jpg": image(5),
        "h.txt": b"\xff",
        "i.jpg": image(6, 20, 20),
        "i.txt": "x",
        "j.jpg": image(6),
        "j.json": '{"caption": null}',
    }
    write_shard(tmp_path / "t" / "0.tar", samples(0, 8) | bad | {"k.jpg": image(60), "k.png": image(61), "k.txt": "k"})
    result = survey(recipe("shards", tmp_path / "t"), tmp_path / "s")
    assert rejects(result).keys() == {f"0.tar/{key}" for key in "abcdefghij"} | {"0.tar/k.png"}
    assert result.train + result.validation == 9
    assert result.reasons["wrong caption"] == 4


def keys(result: Survey) -> set[str]:
    return {record.name.rpartition("/")[2] for record in usable(result)}


def test_every_cut_of_a_shard_keeps_what_is_before_it(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "whole.tar", samples(0, 6)).read_bytes()
    write_shard(tmp_path / "t" / "1.tar", samples(10, 6))
    numbers = [f"{number:06d}" for number in range(6)]
    ends = {key: whole.find(f"{key}.txt".encode()) + 512 + len("picture 0") for key in numbers}
    for place in range(1, ends["000005"], 997):
        (tmp_path / "t" / "0.tar").write_bytes(whole[:place])
        result = survey(recipe("shards", tmp_path / "t"), tmp_path / "s")
        complete = {key for key, end in ends.items() if end <= place}
        assert keys(result) == complete | {f"{number:06d}" for number in range(10, 16)}
        assert any(name == "0.tar" or name.startswith("0.tar/") for name in rejects(result))
        assert "broken shard" in result.reasons


def test_a_broken_header_in_the_middle_is_named_with_the_member_before(tmp_path: Path) -> None:
    data = bytearray(write_shard(tmp_path / "t" / "0.tar", samples(0, 6)).read_bytes())
    place = data.find(b"000003.jpg")
    data[place : place + 100] = b"\xaa" * 100
    write_shard(tmp_path / "t" / "1.tar", samples(10, 3))
    (tmp_path / "t" / "0.tar").write_bytes(data)
    result = survey(recipe("shards", tmp_path / "t"), tmp_path / "s")
    assert rejects(result).keys() == {"0.tar"}
    assert "000002.txt" in rejects(result)["0.tar"]
    assert keys(result) == {"000000", "000001", "000002", "000010", "000011", "000012"}


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    shard = write_shard(tmp_path / "t" / "ok.tar", samples(0, 2))
    (tmp_path / "t" / name).write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(DataError, match=f"{name} is compressed.*gunzip"):
        survey(recipe("shards", tmp_path / "t"), tmp_path / "s")


@pytest.mark.parametrize(
    ("source", "path", "data", "message"),
    [
        ("folder", "", {}, "data.path is empty"),
        ("folder", "gone", {}, "there is no folder .*gone"),
        ("shards", "gone", {}, "there is no folder .*gone"),
        ("shards", "empty", {}, "holds no .tar"),
        ("coco", "empty", {}, "captions_empty.json.*expected"),
        ("folder", "empty", {}, "no usable photograph in .*empty"),
        ("classes", "tiny", {}, "no usable photograph in .*tiny: 8 rejected: 8 too small; the first: ok0.jpg is 80x64"),
        ("classes", "photos", {"train_split": 1.0}, "data.train_split is 1.0"),
        ("classes", "photos", {"train_split": 1e-9}, "the train set is empty.*of 8 photographs gave 0.*8 to validate"),
        ("classes", "photos", {"train_split": 1 - 1e-9}, "the validation set is empty.*or lower data.train_split"),
        ("classes", "photos", {"image_size": 72}, "no usable photograph"),
    ],
)
def test_sources_that_stop_the_run(tmp_path: Path, source: str, path: str, data: dict[str, Any], message: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "photos", GOOD)
    write(tmp_path / "tiny", GOOD)
    values = ({"image_size": 128} if path == "tiny" else {}) | data
    with pytest.raises(DataError, match=message) as error:
        survey(recipe(source, tmp_path / path if path else "", **values), tmp_path / "s")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s" / "survey.json").exists()


def test_a_finished_survey_is_not_done_again_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "photos", GOOD)
    looks: list[int] = []
    first = survey(recipe("classes", root), tmp_path / "s", looks.append)
    assert survey(recipe("classes", root), tmp_path / "s", looks.append) == first
    assert looks == list(range(1, 9))
    write(root, {"more.jpg": image(40)})
    second = survey(recipe("classes", root), tmp_path / "s", looks.append)
    assert second.digest != first.digest
    assert second.train + second.validation == 9
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    survey(recipe("classes", "~/photos", image_size=48), tmp_path / "s", looks.append)
    assert len(looks) == 8 + 9 + 9


def test_a_part_of_a_sorted_folder_is_no_beginning_of_it(tmp_path: Path) -> None:
    files = {f"{letter}{number}/x.jpg": image(number) for letter in "abcdefgh" for number in range(5)}
    root = write(tmp_path / "photos", files)
    result = survey(recipe("classes", root, num_samples=16), tmp_path / "s")
    assert len(usable(result)) == 16
    assert len({record.name[0] for record in usable(result)}) > 4
    write_shard(tmp_path / "t" / "0.tar", samples(0, 30))
    result = survey(recipe("shards", tmp_path / "t", num_samples=16), tmp_path / "s")
    assert [record.name for record in usable(result)] == [f"0.tar/{number:06d}" for number in range(16)]


def test_synthetic_drawings_are_imported_once(tmp_path: Path) -> None:
    result = survey(recipe("synthetic", num_samples=30), tmp_path / "s")
    records = usable(result)
    assert (len(records), result.rejected) == (30, 0)
    assert all(" on a " in record.caption and (record.width, record.height) == (SIDE, SIDE) for record in records)
    assert len({record.caption for record in records}) > 20
    assert len({read_bytes(record.file, record.offset, record.length) for record in records}) == 30
    shard = tmp_path / "s" / "import" / "00000.tar"
    before = shard.stat().st_mtime_ns
    assert survey(recipe("synthetic", num_samples=30, reject_limit=0.5), tmp_path / "s").digest == result.digest
    assert shard.stat().st_mtime_ns == before


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path) -> None:
    asked: list[int] = []

    def given(first: int) -> Iterator[Sample]:
        asked.append(first)
        yield from ((b"x", str(number)) for number in range(first, 2500))

    assert next(imported(tmp_path / "i", {"a": 1}, given)).name == "00000.tar"
    shards = list(imported(tmp_path / "i", {"a": 1}, given))
    assert [shard.name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar"]
    captions = [entry.caption for shard in shards for entry in shard_entries(shard) if isinstance(entry, Found)]
    assert captions == [str(number) for number in range(2500)]
    assert list(imported(tmp_path / "i", {"a": 1}, given)) == shards
    assert asked == [0, 1000]
    assert len(list(imported(tmp_path / "i", {"a": 2}, given))) == 3
    assert asked == [0, 1000, 0]


@pytest.mark.parametrize("saved", [False, True])
def test_hub_data_sets_of_any_caption_column(tmp_path: Path, saved: bool) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": image(number, kind="BMP" if number == 2 else "JPEG"), "path": None} for number in range(8)],
        "captions": [[f"one {number}", f"two {number}"] for number in range(7)] + [[]],
    }
    rows["image"].append({"bytes": b"broken", "path": None})
    rows["captions"].append(["x"])
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    data = datasets.Dataset.from_dict(rows, features=features)
    path = tmp_path / "set"
    path.mkdir()
    data.save_to_disk(str(path)) if saved else data.to_parquet(str(path / "train-00000.parquet"))
    result = survey(recipe("hub", path), tmp_path / "s")
    assert [record.caption for record in usable(result)] == [f"one {number}\ntwo {number}" for number in range(7)]
    assert result.reasons == {"image without caption": 1, "undecodable image": 1}
    stored = [read_bytes(record.file, record.offset, record.length) for record in usable(result)]
    assert stored[1] == image(1)
    assert stored[2].startswith(b"\x89PNG")


def test_hub_without_its_package_or_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="cannot open the data set"):
        survey(recipe("hub", tmp_path / "nothing"), tmp_path / "s")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match=r'pip install "photo-enhancer\[datasets\]"'):
        next(hub.entries(recipe("hub", "someone/something").data, 0, tmp_path / "t"))
