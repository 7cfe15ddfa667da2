"""A file that has not changed is read once; one that has, in whatever way and however soon, is read again."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lora_core.data import digests
from lora_core.data.digests import DigestStore
from lora_core.errors import DataError
from lora_core.files import file_digest as digest_of_path
from lora_core.images import write_png
from lora_core.workspace import Workspace


def file_digest(path) -> str:
    return digest_of_path(Path(path))


@pytest.fixture
def files(tmp_path):
    for number in range(5):
        write_png(tmp_path / f"{number}.png", np.full((8, 10 + number, 3), number, np.uint8))
    return [str(tmp_path / f"{number}.png") for number in range(5)]


def later(monkeypatch, seconds=60.0):
    """Files that were written now are no longer fresh."""
    real = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: real() + int(seconds * 1e9))


def read(workspace, paths, monkeypatch) -> tuple[list[str], list[str]]:
    """The digests, and the files that were opened for them."""
    opened = []
    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_digest", lambda path: opened.append(str(path)) or file_digest(path))
        return list(DigestStore(workspace).digests(paths)), opened


def test_digests_and_sizes_are_remembered_by_all_that_the_file_system_says(tmp_path, files, monkeypatch):
    workspace = Workspace(tmp_path)
    later(monkeypatch)
    truth = [file_digest(path) for path in files]
    assert read(workspace, files, monkeypatch) == (truth, files)
    assert read(workspace, files, monkeypatch) == (truth, [])
    assert DigestStore(workspace).sizes(files).tolist() == [[10 + number, 8] for number in range(5)]
    assert read(workspace, files, monkeypatch)[1] == [], "sizes do not displace digests"

    status = os.stat(files[2])
    time.sleep(0.02)
    data = bytearray(Path(files[2]).read_bytes())
    data[-1] ^= 1
    with open(files[2], "r+b") as file:
        file.write(data)
    os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))  # as exiftool -P does
    changed, opened = read(workspace, files, monkeypatch)
    assert changed[2] == file_digest(files[2]) != truth[2] and opened == [files[2]]
    write_png(tmp_path / "3.png", np.zeros((30, 20, 3), np.uint8))
    assert DigestStore(workspace).sizes(files)[3].tolist() == [20, 30]
    assert read(workspace, files, monkeypatch)[1] == [files[3]], "a new size does not keep the old digest"


def test_a_photograph_is_decoded_once_and_a_damaged_one_every_time(tmp_path, files, monkeypatch):
    workspace, decoded = Workspace(tmp_path), []
    later(monkeypatch)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:-30])
    real = digests.read_photo
    monkeypatch.setattr(digests, "read_photo", lambda path: decoded.append(path.name) or real(path))
    for expected in (["0.png", "1.png", "2.png", "3.png", "4.png"], ["3.png"]):
        (bad,) = DigestStore(workspace).unreadable(files)
        assert bad.path.name == "3.png" and bad.reason and sorted(decoded) == expected
        decoded.clear()


def test_a_file_that_changed_just_now_is_not_trusted(tmp_path, files, monkeypatch):
    workspace = Workspace(tmp_path)
    for content in (b"first", b"other", b"third"):  # of one length, within one tick of many file systems
        (tmp_path / "0.png").write_bytes(content)
        stamp = os.stat(files[1]).st_mtime_ns
        os.utime(files[0], ns=(stamp, stamp))
        assert read(workspace, files[:1], monkeypatch) == ([file_digest(files[0])], files[:1])


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, files, monkeypatch):
    workspace, real = Workspace(tmp_path), file_digest
    later(monkeypatch)

    def read_and_change(path):
        found = real(path)
        path.write_bytes(path.read_bytes() + b"more")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_digest", read_and_change)
        list(DigestStore(workspace).digests(files[:1]))
    assert list(DigestStore(workspace).digests(files[:1])) == [real(files[0])]


@pytest.mark.parametrize("damage", [
    lambda file: file.write_bytes(b"no data base" * 1000),
    lambda file: file.write_bytes(file.read_bytes()[:5000]),
    lambda file: file.write_bytes(file.read_bytes()[:100] + os.urandom(len(file.read_bytes()) - 100)),
    lambda file: (file.unlink(), file.mkdir()),
])  # fmt: skip
def test_a_damaged_store_costs_time_and_nothing_else(tmp_path, files, monkeypatch, damage):
    workspace = Workspace(tmp_path)
    later(monkeypatch)
    truth, _ = read(workspace, files, monkeypatch)
    damage(workspace.digests)
    assert read(workspace, files, monkeypatch)[0] == truth
    if workspace.digests.is_file():
        assert read(workspace, files, monkeypatch) == (truth, []), "made anew"


def test_a_workspace_may_be_moved_and_need_not_exist(tmp_path, monkeypatch):
    (tmp_path / "first").mkdir()
    write_png(tmp_path / "first" / "a.png", np.zeros((8, 8, 3), np.uint8))
    later(monkeypatch)
    before, _ = read(Workspace(tmp_path / "first"), [str(tmp_path / "first" / "a.png")], monkeypatch)
    (tmp_path / "first").rename(tmp_path / "second")
    moved = [str(tmp_path / "second" / "a.png")]
    assert read(Workspace(tmp_path / "second"), moved, monkeypatch) == (before, [])
    assert read(Workspace(tmp_path / "nowhere"), moved, monkeypatch) == (before, moved)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(DataError, match=r"first/a\.png: No such file"):
        list(DigestStore(None).digests([str(tmp_path / "first" / "a.png")]))


def _digest_all(root: str, paths: list[str]) -> list[str]:
    return list(DigestStore(Workspace(Path(root))).digests(paths))


def test_several_processes_share_a_store(tmp_path, files, monkeypatch):
    later(monkeypatch)
    with ProcessPoolExecutor(3) as pool:
        jobs = [pool.submit(_digest_all, str(tmp_path), files * 200) for _ in range(3)]
        assert all(job.result() == [file_digest(path) for path in files] * 200 for job in jobs)
    assert read(Workspace(tmp_path), files, monkeypatch)[1] == []
