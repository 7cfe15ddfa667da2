"""A workspace in a bucket, its mirrors on two machines, and who may write."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from lora_core.degradation.manifest import Record, open_journal, read_manifest, write_manifest
from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.storage import hold, mirror, mirror_of, open_place, places, release_all
from lora_core.storage.mirror import Mirror
from lora_core.workspace import TWINS_MANIFEST
from tests.bucket import BUCKET, running_bucket

Machine = Callable[[str], None]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with running_bucket() as address:
        yield address


@pytest.fixture
def place(bucket: str, request: pytest.FixtureRequest) -> Iterator[str]:
    yield f"{bucket}/{request.node.name}"
    release_all()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Goes over to a machine: its caches are its own, and what it held was given back."""

    def go(name: str) -> None:
        release_all()
        monkeypatch.setenv(places.CACHE, str(tmp_path / name))

    return go


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def objects(place: str) -> dict[str, str]:
    prefix = place.removeprefix(f"s3://{BUCKET}/") + "/"
    client = boto3.client("s3")
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        one["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read().decode()
        for one in found
        if "/.photo-enhancer/" not in one["Key"]
    }


def test_two_machines_take_turns_and_lose_nothing(place: str, machine: Machine) -> None:
    machine("a")
    here = open_place(place)
    write(here / "dataset" / "one.png", "first")
    write(here / "output" / "result.json", "{}")
    write(here / "output" / "states" / "old.bin", "old")
    write(here / "cache" / "latents.bin", "can be computed again")
    write(here / "output" / ".half.tmp", "half")
    write(here / "output" / "ledger.jsonl.lock", "")
    assert mirror_of(here).push() == 3
    assert objects(place) == {"dataset/one.png": "first", "output/result.json": "{}", "output/states/old.bin": "old"}
    assert mirror_of(here).push() == 0
    (here / "output" / "states" / "old.bin").unlink()
    write(here / "output" / "states" / "new.bin", "new")
    assert mirror_of(here).push() == 2

    machine("b")
    there = open_place(place)
    assert there != here and (there / "output" / "states" / "new.bin").read_text() == "new"
    assert not (there / "output" / "states" / "old.bin").exists()
    write(there / "dataset" / "one.png", "second")
    release_all()  # publishes what is left

    machine("a")
    write(here / "output" / "unpublished.png", "a killed run left it")
    assert open_place(place) == here
    assert (here / "dataset" / "one.png").read_text() == "second"
    release_all()
    assert objects(place)["output/unpublished.png"] == "a killed run left it"


def test_a_wiped_mirror_deletes_nothing(place: str, machine: Machine) -> None:
    machine("a")
    here = open_place(place)
    write(here / "one.png", "1")
    write(here / "two.png", "2")
    release_all()
    (here / "one.png").unlink()
    open_place(place)
    assert (here / "one.png").read_text() == "1"
    release_all()
    assert objects(place) == {"one.png": "1", "two.png": "2"}


def test_one_machine_writes_at_a_time(place: str, machine: Machine, tmp_path: Path, monkeypatch) -> None:
    machine("a")
    first = open_place(place)
    mirror_a = mirror_of(first)
    script = (
        "import sys, os\nfrom pathlib import Path\nfrom lora_core.errors import ResourceError\n"
        "from lora_core.storage import open_place\n"
        "try: folder = open_place(sys.argv[1])\n"
        "except ResourceError as error: print(error); sys.exit(3)\n"
        "(folder / 'theirs.png').write_text('theirs')\n"
    )
    command = [sys.executable, "-c", script, place]
    elsewhere = os.environ | {places.CACHE: str(tmp_path / "b")}
    refused = subprocess.run(command, env=elsewhere, capture_output=True, text=True)
    assert refused.returncode == 3 and "is being written by" in refused.stdout and str(first) in refused.stdout
    same_machine = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert same_machine.returncode == 0, same_machine.stderr
    assert objects(place) == {"theirs.png": "theirs"}  # published when that process ended, and the hold is still ours
    assert mirror_a.push() == 0
    monkeypatch.setattr(hold, "LEASE", timedelta(0))  # as if this machine were silent for long
    impatient = "import datetime, lora_core.storage.hold as hold\nhold.LEASE = datetime.timedelta(0)\n" + script
    taken = subprocess.run([sys.executable, "-c", impatient, place], env=elsewhere, capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr + taken.stdout
    write(first / "late.png", "late")
    with pytest.raises(ResourceError, match="silent for too long"):
        mirror_a.push()
    assert "late.png" not in objects(place)


def test_a_reader_sees_no_manifest_without_what_it_names(place: str, machine: Machine, monkeypatch) -> None:
    machine("a")
    here = open_place(place)
    write(here / "round" / "scores.parquet", "1")
    write(here / "round" / "result.json", "1")
    mirror_of(here).push()
    monkeypatch.setenv(places.CACHE, str(here.parents[1] / "b"))
    reader = Mirror(place, places.mirror_folder(place))
    listing = reader._listing
    published: list[int] = []

    def and_then_something_is_published():
        found = listing()
        if not published:
            published.append(1)
            write(here / "round" / "scores.parquet", "22")
            write(here / "round" / "result.json", "22")
            write(here / "round-1" / "result.json", "33")
            mirror_of(here).push()
        return found

    monkeypatch.setattr(reader, "_listing", and_then_something_is_published)
    reader.pull()
    assert not list(reader.root.glob("round*/result.json"))
    reader.pull()
    assert (reader.root / "round" / "result.json").read_text() == "22"
    assert (reader.root / "round" / "scores.parquet").read_text() == "22"


def test_an_interrupted_transfer_leaves_nothing_that_looks_whole(place: str, machine: Machine, monkeypatch) -> None:
    machine("a")
    here = open_place(place)
    for name in "abc":
        write(here / f"{name}.png", name * 1000)
    machine("b")
    reader = Mirror(place, places.mirror_folder(place))

    def cut(names: list[str], targets: list[str]) -> None:
        Path(targets[0]).write_text("half")
        raise OSError("connection reset")

    monkeypatch.setattr(reader._system, "get", cut)
    with pytest.raises(ResourceError, match="connection reset"):
        reader.pull()
    assert not list(reader.root.glob("*.png"))
    monkeypatch.undo()
    assert reader.pull() == 3 and (reader.root / "a.png").read_text() == "a" * 1000


def test_what_an_interrupted_pull_did_not_bring_is_not_gone(place: str, machine: Machine, monkeypatch) -> None:
    machine("a")
    here = open_place(place)
    write(here / "one.png", "1")
    write(here / "two.png", "2")
    release_all()

    def full(*_: object) -> None:
        raise ResourceError("the disk is full")

    (here / "one.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "require_space", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            open_place(place)
        assert mirror_of(here).push() == 0
        release_all()  # as at the end of the process
    assert objects(place) == {"one.png": "1", "two.png": "2"}
    machine("b")
    assert (open_place(place) / "one.png").read_text() == "1"  # it was given back
    machine("a")
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "require_space", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            open_place(place)
    open_place(place)  # the same process tries once more
    assert (here / "one.png").read_text() == "1"
    (here / "one.png").unlink()
    release_all()  # but what is removed after a pull is gone
    assert objects(place) == {"two.png": "2"}


def test_numbers_that_come_again_let_no_sleeper_publish(place: str, machine: Machine, tmp_path, monkeypatch) -> None:
    machine("a")
    first = open_place(place)
    sleeper = mirror_of(first)
    with monkeypatch.context() as patch:
        patch.setattr(hold, "LEASE", timedelta(0))  # as if the sleeper were silent for long
        other = hold.Hold(place, *places.file_system(place), tmp_path / "b")
        other.take()
        other.give_back()
    again = hold.Hold(place, *places.file_system(place), tmp_path / "b")
    again.take()
    assert (other.number, again.number) == (2, 1)
    write(first / "late.png", "late")
    with pytest.raises(ResourceError, match="silent for too long"):
        sleeper.push()
    release_all()  # the sleeper ends, and takes nothing from the other with it
    assert objects(place) == {}
    again.require()
    again.give_back()


def test_machines_of_one_name_with_mirrors_of_one_path_are_two(place: str, tmp_path: Path) -> None:
    path, aside = tmp_path / "mirror", tmp_path / "the other disk"
    first = hold.Hold(place, *places.file_system(place), path)
    first.take()
    path.rename(aside)
    second = hold.Hold(place, *places.file_system(place), path)
    with pytest.raises(ResourceError, match="is being written by"):
        second.take()
    first.require()
    path.rename(tmp_path / "second disk")
    aside.rename(path)
    third = hold.Hold(place, *places.file_system(place), path)  # a process after one that was killed
    third.take()
    assert third.number == first.number
    first.require()
    third.give_back()


def record(name: str) -> Record:
    return Record(name, "source", "output", "preset", 0, "recipe", {})


def test_records_of_a_killed_run_outlive_those_of_another_machine(place: str, machine: Machine) -> None:
    machine("a")
    killed = open_place(place) / "twins"
    release_all()
    with open_journal(killed, {}) as journal:  # published by nobody
        journal.add(record("one.png"))
    machine("b")
    with open_journal(open_place(place) / "twins", {}) as journal:
        journal.add(record("two.png"))
    machine("a")
    open_place(place)
    assert set(read_manifest(killed)) == {"one.png", "two.png"}


def test_twins_travel_after_their_records(place: str, machine: Machine, monkeypatch) -> None:
    def cut(*_: object, **__: object) -> None:
        raise OSError("connection reset")

    machine("a")
    twins = open_place(place) / "twins"
    write(twins / TWINS_MANIFEST, record("one.png").line())
    write(twins / "one.png", "1")
    with open_journal(twins, read_manifest(twins)) as journal:
        journal.add(record("two.png"))
        write(twins / "two.png", "2")
    publisher = mirror_of(twins.parent)
    with monkeypatch.context() as patch:
        patch.setattr(publisher._system, "put", cut)
        with pytest.raises(ResourceError, match="connection reset"):
            publisher.push()
    assert set(objects(place)) == {f"twins/{TWINS_MANIFEST}", "twins/.degradation.journal"}
    release_all()

    machine("b")
    reader = Mirror(place, places.mirror_folder(place))
    get, waves = reader._system.get, []

    def one_wave(*arguments: list[str]) -> None:
        if waves:
            cut()
        waves.append(get(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(reader._system, "get", one_wave)
        with pytest.raises(ResourceError, match="connection reset"):
            reader.pull()
    assert set(read_manifest(reader.root / "twins")) == {"one.png", "two.png"}
    assert not list(reader.root.rglob("*.png"))
    there = open_place(place) / "twins"
    assert (there / "two.png").read_text() == "2"
    write_manifest(there, read_manifest(there))
    release_all()
    assert set(objects(place)) == {f"twins/{name}" for name in ("one.png", "two.png", TWINS_MANIFEST)}


def test_files_that_go_away_or_change_during_a_push(place: str, machine: Machine, monkeypatch) -> None:
    machine("a")
    here = open_place(place)
    publisher = mirror_of(here)
    for name in ("gone at once.png", "gone later.png", "kept.png", "round.json"):
        write(here / name, "old")
    files, put, walks = publisher._files, publisher._system.put, []

    def walk() -> Iterator[str]:
        walks.append(1)
        if len(walks) == 2:  # what may name others was read
            write(here / "round.json", "new")
        for name in files():
            if name == "gone at once.png":
                (here / name).unlink(missing_ok=True)
            yield name

    def upload(*arguments: list[str]) -> None:
        (here / "gone later.png").unlink(missing_ok=True)
        put(*arguments)
        write(here / "kept.png", "new")

    monkeypatch.setattr(publisher, "_files", walk)
    with monkeypatch.context() as patch:
        patch.setattr(publisher._system, "put", upload)
        assert publisher.push() == 2
    assert objects(place) == {"kept.png": "old", "round.json": "old"}
    assert publisher.push() == 2 and publisher.push() == 0
    assert objects(place) == {"kept.png": "new", "round.json": "new"}


def test_a_folder_that_is_empty_elsewhere_goes_too(place: str, machine: Machine) -> None:
    machine("a")
    here = open_place(place)
    write(here / "states" / "images-1" / "state.pt", "1")
    write(here / "states" / "log.txt", "")
    machine("b")
    (open_place(place) / "states" / "images-1" / "state.pt").unlink()
    machine("a")
    open_place(place)
    assert [path.name for path in (here / "states").iterdir()] == ["log.txt"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://host/work", "mount any other storage"),
        ("s3://key:secret@bucket/work", "no place for keys"),
        ("s3://bucket", "a bucket and a path"),
        ("s3://bucket/../work", "a bucket and a path"),
        ("file://server/work", "a folder of this machine"),
    ],
)
def test_addresses_that_are_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        open_place(address)
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_or_has_names_that_escape(bucket: str, machine: Machine) -> None:
    machine("a")
    with pytest.raises(ResourceError, match=r"s3://nowhere/work cannot be reached"):
        open_place("s3://nowhere/work")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="bad/../../etc/passwd", Body=b"")
    with pytest.raises(DataError, match="is no name for a file"):
        open_place(f"{bucket}/bad", hold=False)
    for host in ("", "localhost"):
        assert open_place(f"file://{host}/somewhere/work") == Path("/somewhere/work")
