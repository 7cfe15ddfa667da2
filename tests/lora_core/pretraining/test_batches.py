"""The stream of photographs: a function of position, robust against a broken file, and made ahead in order."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_core.errors import DataError
from lora_core.images import header_size, read_rgb, read_rgb_bytes
from lora_core.pretraining.data.batches import ImageStream, Prefetcher, centre_crops
from lora_core.pretraining.data.records import Record, RecordSet, open_manifest
from lora_core.pretraining.recipe import DataSection
from tests.lora_core.pretraining.corpora import SIDE, image, recipe, write, write_shard

COUNT = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of twelve images of 80x64 pixels in two shards, all of them to train on; never write to it."""
    folder = tmp_path_factory.mktemp("stream")
    records = []
    for first in (0, 6):
        shard = write_shard(
            folder / f"{first}.tar", {f"{number}.jpg": image(number) for number in range(first, first + 6)}
        )
        data = shard.read_bytes()
        for number in range(first, first + 6):
            encoded = image(number)
            caption = "one\ntwo\nthree" if number == 5 else f"picture {number}"
            records.append(Record(f"{shard.name}/{number}", caption, shard, data.find(encoded), len(encoded), 80, 64))
    return manifest(folder / "manifest", records)


def manifest(folder: Path, records: list[Record]) -> Path:
    with open_manifest(folder, 1, 0) as writer:
        for record in records:
            writer.add(record)
    return folder


def files(folder: Path, contents: list[bytes]) -> RecordSet:
    """A set of plain files."""
    write(folder / "photos", {f"{number}.jpg": data for number, data in enumerate(contents)})
    records = [
        Record(f"{number}.jpg", f"picture {number}", folder / "photos" / f"{number}.jpg", 0, len(data), 80, 64)
        for number, data in enumerate(contents)
    ]
    return RecordSet(manifest(folder / "manifest", records), "train")


def section(**values: Any) -> DataSection:
    return recipe("folder", **values).data


def test_a_resumed_stream_gives_what_an_undisturbed_one_does(shards: Path) -> None:
    whole = ImageStream(RecordSet(shards, "train"), section(), 3)
    positions = range(3 * COUNT)
    pixels, captions = whole.batch(positions, SIDE)
    assert pixels.shape == (3 * COUNT, 3, SIDE, SIDE)
    assert pixels.dtype == np.float32
    assert -1 <= pixels.min() < -0.5 and 0.5 < pixels.max() <= 1
    for middle in (1, 8, 17):  # in the middle of a shard and of an epoch
        resumed = ImageStream(RecordSet(shards, "train"), section(), 3, cache_bytes=0)
        later, texts = resumed.batch(positions[middle:], SIDE)
        assert np.array_equal(later, pixels[middle:])
        assert texts == captions[middle:]
        assert resumed.names(positions[middle:]) == whole.names(positions[middle:])
    for epoch in range(3):
        assert len(set(whole.names(positions[epoch * COUNT : (epoch + 1) * COUNT]))) == COUNT
    assert whole.names(positions[:COUNT]) != whole.names(positions[COUNT : 2 * COUNT])
    assert set(captions) > {f"picture {number}" for number in range(5)}


def test_alternatives_take_turns(shards: Path) -> None:
    stream = ImageStream(RecordSet(shards, "train"), section(), 0)
    five = [position for position in range(30 * COUNT) if stream.names([position]) == ["0.tar/5"]]
    assert set(stream.captions(five)) == {"one", "two", "three"}


@pytest.mark.parametrize(("framing", "shape"), [("resize", (32, 40)), ("crop", (64, 80))])
def test_framing(shards: Path, framing: str, shape: tuple[int, int]) -> None:
    stream = ImageStream(RecordSet(shards, "train"), section(image_size=32, framing=framing, flip=False), 0)
    assert stream.whole(0, 32).shape == (*shape, 3)
    whole = stream.whole(stream.record_number(4), 32)
    crop = np.rint((stream.pixels([4], 16)[0].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    places = [(top, left) for top in range(shape[0] - 15) for left in range(shape[1] - 15)]
    assert any(np.array_equal(whole[top : top + 16, left : left + 16], crop) for top, left in places)
    assert centre_crops(stream, 5, 48).shape == (5, 48, 48, 3)
    assert centre_crops(stream, 50, 16).shape == (COUNT, 16, 16, 3)


def test_half_are_mirrored(shards: Path) -> None:
    plain = ImageStream(RecordSet(shards, "train"), section(flip=False), 0).pixels(range(100), SIDE)
    flipped = ImageStream(RecordSet(shards, "train"), section(), 0).pixels(range(100), SIDE)
    mirrored = [np.array_equal(one, other[..., ::-1]) for one, other in zip(plain, flipped, strict=True)]
    assert 30 < sum(mirrored) < 70
    assert all(
        same or np.array_equal(*pair) for same, pair in zip(mirrored, zip(plain, flipped, strict=True), strict=True)
    )


def test_the_cache_is_bounded_and_decodes_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_core.pretraining.data import batches

    decoded: list[str] = []
    real = batches.read_rgb_bytes
    monkeypatch.setattr(batches, "read_rgb_bytes", lambda data, name: decoded.append(name) or real(data, name))
    ImageStream(RecordSet(shards, "train"), section(), 0).pixels(range(4 * COUNT), SIDE)
    assert len(decoded) == len(set(decoded)) == COUNT
    decoded.clear()
    small = ImageStream(RecordSet(shards, "train"), section(), 0, cache_bytes=3 * 80 * 64 * 3)
    small.pixels(range(4 * COUNT), SIDE)
    assert len(decoded) > 2 * COUNT
    assert small._cache._held <= 3 * 80 * 64 * 3


def test_a_broken_image_is_reported_once_and_replaced(tmp_path: Path) -> None:
    records = files(tmp_path, [image(number) for number in range(COUNT)])
    broken = tmp_path / "photos" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200] + bytes(200))
    (tmp_path / "photos" / "7.jpg").unlink()
    runs = []
    for order in (range(3 * COUNT), reversed(range(3 * COUNT))):
        told: list[tuple[str, str]] = []
        stream = ImageStream(
            records, section(), 0, lambda record, reason, told=told: told.append((record.name, reason))
        )
        pixels = {position: stream.pixels([position], SIDE) for position in order}
        assert sorted(name for name, _ in told) == ["3.jpg", "7.jpg"]
        assert not {"3.jpg", "7.jpg"} & set(stream.names(range(3 * COUNT)))
        texts = [name.replace(".jpg", "") for name in stream.names(range(3 * COUNT))]
        assert stream.captions(range(3 * COUNT)) == [f"picture {text}" for text in texts]
        runs.append(np.stack([pixels[position] for position in range(3 * COUNT)]))
    assert np.array_equal(*runs)
    with pytest.raises(DataError, match=r"(3|7)\.jpg in .*photos.* cannot be read"):
        ImageStream(records, section(), 0).pixels(range(COUNT), SIDE)


@pytest.mark.parametrize(
    ("count", "bad", "limit", "stops"),
    [(12, 3, 0.02, False), (12, 4, 0.02, True), (12, 4, 0.5, False), (2, 2, 1.0, True)],
)
def test_too_many_broken_images_stop_the_run(tmp_path: Path, count: int, bad: int, limit: float, stops: bool) -> None:
    records = files(tmp_path, [image(number)[: 100 if number < bad else None] for number in range(count)])
    told: list[Record] = []
    stream = ImageStream(records, section(reject_limit=limit), 0, lambda record, _: told.append(record))
    if stops:
        with pytest.raises(DataError, match=f"{bad} of {count} photographs cannot be decoded.*data.reject_limit"):
            stream.pixels(range(2 * count), SIDE)
    else:
        stream.pixels(range(2 * count), SIDE)
    assert len({record.name for record in told}) == len(told) == bad


def test_a_photograph_in_memory_is_read_as_from_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.jpg": image(1)}) / "a.jpg"
    assert np.array_equal(read_rgb_bytes(image(1), "shard/a"), read_rgb(path))
    assert header_size(image(1)[:700], "shard/a") == (80, 64)
    for data, reason in ((b"", "not an image"), (b"text", "not an image"), (image(1)[:700], "truncated")):
        with pytest.raises(DataError, match=f"^shard/a: .*{reason}"):
            read_rgb_bytes(data, "shard/a")


def test_batches_come_in_order_from_threads() -> None:
    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    with Prefetcher(make, start=5, step=3, depth=4, workers=3) as ahead:
        assert [next(ahead) for _ in range(20)] == list(range(5, 65, 3))
    assert list(ahead) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_an_error_comes_at_its_place() -> None:
    def make(number: int) -> int:
        if number == 3:
            raise DataError("three")
        return number

    with Prefetcher(make, start=0, step=1, depth=8, workers=2) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="three"):
            next(ahead)
        assert next(ahead) == 4


def test_no_more_is_made_than_was_asked_for_ahead() -> None:
    made: list[int] = []
    with Prefetcher(lambda number: made.append(number), start=0, step=1, depth=3, workers=1) as ahead:
        next(ahead)
        time.sleep(0.1)
        assert made == [0, 1, 2, 3]
