"""The manifest: what is written is read, by position, by set, whole or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lora_core.errors import DataError
from lora_core.pretraining.data.records import Record, RecordSet, SetName, open_manifest, read_bytes

NAMES = [f"00001.tar/{number:04d}" for number in range(500)]


def record(name: str, offset: int = 512) -> Record:
    file = Path("/data/ü") / (name.split("/")[0] if offset else name)
    return Record(name, f"caption of {name} – 猫\nКот", file, offset, 2**31 + 7, 640, 480)


def write(folder: Path, names: list[str], split: float = 0.9, seed: int = 0) -> None:
    with open_manifest(folder, split, seed) as manifest:
        for name in names:
            manifest.add(record(name))


def members(folder: Path, name: SetName) -> list[str]:
    records = RecordSet(folder, name)
    return [records[number].name for number in range(len(records))]


def test_records_come_back_in_order_each_in_one_set(tmp_path: Path) -> None:
    write(tmp_path / "m", NAMES)
    train, validation = members(tmp_path / "m", "train"), members(tmp_path / "m", "validation")
    assert sorted(train + validation) == NAMES
    assert train == sorted(train)
    assert 20 < len(validation) < 85
    records = RecordSet(tmp_path / "m", "train")
    assert records[7] == record(train[7])
    assert [entry.name for entry in records] == train
    with pytest.raises(IndexError):
        records[len(train)]


def test_a_photograph_stays_in_its_set_when_others_are_added(tmp_path: Path) -> None:
    write(tmp_path / "all", NAMES)
    write(tmp_path / "part", NAMES[::3])
    write(tmp_path / "seed", NAMES, seed=1)
    assert set(members(tmp_path / "part", "train")) <= set(members(tmp_path / "all", "train"))
    assert members(tmp_path / "seed", "validation") != members(tmp_path / "all", "validation")


def test_plain_files_store_their_folder_once(tmp_path: Path) -> None:
    names = [f"{folder}/é{number}.jpg" for folder in ("cats", "dogs") for number in range(50)]
    with open_manifest(tmp_path / "m", 1, 0) as manifest:
        for name in names:
            manifest.add(record(name, offset=0))
        with pytest.raises(ValueError, match="does not end"):
            manifest.add(Record("other.jpg", "", Path("/data/x.jpg"), 0, 1, 1, 1))
    assert json.loads((tmp_path / "m" / "files.json").read_text()) == ["/data/ü/cats", "/data/ü/dogs"]
    assert list(RecordSet(tmp_path / "m", "train")) == [record(name, offset=0) for name in names]


def test_threads_share_a_set(tmp_path: Path) -> None:
    write(tmp_path / "m", NAMES, split=1)
    records = RecordSet(tmp_path / "m", "train")
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda number: records[number % 500].name, range(4000)))
    assert names == NAMES * 8


def test_the_digest_follows_content(tmp_path: Path) -> None:
    digests = set()
    for name, names in {"a": NAMES, "b": NAMES, "c": NAMES[:-1], "d": NAMES[::-1]}.items():
        write(tmp_path / name, names)
        digests.add(RecordSet(tmp_path / name, "train").digest)
    assert len(digests) == 3


def test_an_interrupted_manifest_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "m", NAMES)
    with pytest.raises(KeyboardInterrupt), open_manifest(tmp_path / "m", 0.9, 0) as manifest:
        manifest.add(record("x"))
        raise KeyboardInterrupt
    assert len(members(tmp_path / "m", "train") + members(tmp_path / "m", "validation")) == 500
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json"):
        RecordSet(tmp_path, "train")
    (tmp_path / "short").write_bytes(b"12345")
    assert read_bytes(tmp_path / "short", 1, 3) == b"234"
    with pytest.raises(DataError, match="ends at byte 5, 9 were"):
        read_bytes(tmp_path / "short", 3, 6)
    with pytest.raises(DataError, match="cannot read"):
        read_bytes(tmp_path / "none", 0, 1)
