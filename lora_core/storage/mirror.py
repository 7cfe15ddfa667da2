"""A workspace in a bucket, and its mirror on this machine.

What is there is known by its ETag, what is here by size and time, and where those differ by its sha256. Files that name
others (manifests) are read from a listing that is older than the one of the files, and written after them, so that
nobody ever sees a manifest without what it names. The records of degraded twins come before the twins, as they do where
they are made. Objects appear whole, and files are put in place when they are whole.

Not mirrored: the workspace's cache, locks, and hidden files but for journals of twins. What a killed run had not
published is still in its mirror, and published by the next run on that machine, unless another machine has published
the same file meanwhile.
"""

import atexit
import concurrent.futures.thread  # noqa: F401, its own end must come after ours
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath

from filelock import FileLock

from lora_core.errors import DataError, UserError
from lora_core.files import file_digest, read_json, require_space, write_json
from lora_core.storage.hold import OWN, Hold
from lora_core.storage.places import file_system, local_folder, mirror_folder, reached
from lora_core.workspace import TWINS_JOURNALS, TWINS_MANIFEST

_LAST = ("result.json", "ledger.jsonl", "current.json")
_NAMING = (".json", ".jsonl", ".yaml", ".txt", ".log", ".html")
"""Ends of files that may name others; all of them are small."""
_RECORDS, _DATA, _NAMES = range(-1, 0), range(1), range(1, 2 + len(_LAST))
"""The ranks (`_rank`) of records of twins, of what nobody reads to find others, and of files that may name others."""

logger = logging.getLogger(__name__)
_held: dict[Path, Hold] = {}


@dataclass(frozen=True)
class _There:
    """A file in the bucket."""

    etag: str
    size: int


@dataclass(frozen=True)
class _Known:
    """A file as it was when here and there were the same."""

    etag: str
    size: int
    mtime_ns: int
    digest: str = ""


_State = tuple[int, int, str]
"""Size, time and digest of a file when it was uploaded."""


class Mirror:
    """A workspace in a bucket and this machine's copy of it.

    Attributes:
        url: s3://bucket/path.
        root: the copy.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url.rstrip("/"), root
        self._record = root / OWN / "mirror.json"
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(str(root / OWN / ".lock"))
        self._system, self._path = file_system(self.url)

    def hold(self) -> None:
        """Makes this machine the one that writes, until the process ends.

        Raises:
            ResourceError: another machine writes there, or the bucket cannot be reached.
        """
        if self.root not in _held:
            hold = Hold(self.url, self._system, self._path, self.root)
            hold.take()
            _held[self.root] = hold

    def pull(self) -> int:
        """Brings what is new or changed in the bucket; returns how many files.

        Raises:
            ResourceError: the bucket cannot be reached, or the disk is full.
            DataError: a name in the bucket that is none for a file.
        """
        with self._lock, reached(self.url):
            naming = self._listing()
            there = self._listing()
            there = {name: one for name, one in there.items() if _rank(name) not in _NAMES or naming.get(name) == one}
            known = self._known()
            for name in known.keys() - there.keys():
                if _rank(name) not in _NAMES or name not in naming:  # else it changed just now, and stays as it was
                    self._drop(name, known)
            new = [
                name
                for name, one in there.items()
                if name not in known or known[name].etag != one.etag or not (self.root / name).exists()
            ]
            require_space(self.root, sum(there[name].size for name in new), f"the mirror of {self.url}")
            for wave in _waves(new):
                self._download(wave, there, known)
            self._write_record(known)
        if self.root in _held:
            _held[self.root].pulled = True
        return len(new)

    def push(self) -> int:
        """Publishes what is new, changed or gone here, where this machine holds the place; returns how many files.

        Nothing where the mirror could not be brought up to date before: what it lacks is not gone. Of a file that
        changes or goes away meanwhile, the next call publishes the rest.

        Raises:
            ResourceError: another machine has taken over, or the bucket cannot be reached.
        """
        if self.root not in _held or not _held[self.root].pulled:
            return 0
        with self._lock, reached(self.url):
            _held[self.root].require()
            known = self._known()
            naming = self._contents(known, _NAMES)  # before the data are listed, so that what they name is among them
            data = list(self._changed(known, _DATA))
            records = self._contents(known, _RECORDS)  # afterwards, so that they name all twins that are listed
            gone = sorted((name for name in known if not (self.root / name).exists()), key=_rank, reverse=True)
            states = self._pipe(records) | self._put(data) | self._pipe(naming)
            for name in gone:
                self._system.rm_file(self._object(name))
                del known[name]
            if states:
                listed = self._listing()
                known |= {name: _Known(listed[name].etag, *state) for name, state in states.items()}
            self._write_record(known)
        return len(states) + len(gone)

    def _changed(self, known: dict[str, _Known], ranks: range) -> Iterator[str]:
        """The files of such ranks here that are not as they are there."""
        for name in self._files():
            if _rank(name) not in ranks:
                continue
            with suppress(FileNotFoundError):  # removed since it was listed
                one, status = known.get(name), self._status(name)
                if one and (one.size, one.mtime_ns) == status:
                    continue
                if one and one.digest and one.digest == file_digest(self.root / name):
                    known[name] = _Known(one.etag, *status, one.digest)
                    continue
                yield name

    def _contents(self, known: dict[str, _Known], ranks: range) -> dict[str, tuple[_State, bytes]]:
        """What the changed files of such ranks hold; each is read before the next is looked at."""
        contents = {}
        for name in self._changed(known, ranks):
            with suppress(FileNotFoundError):
                status = self._status(name)  # before reading: what changes later is seen to have changed
                data = (self.root / name).read_bytes()
                contents[name] = (*status, sha256(data).hexdigest()), data
        return contents

    def _pipe(self, contents: dict[str, tuple[_State, bytes]]) -> dict[str, _State]:
        """Uploads contents that were read; returns the states that they were read in."""
        for wave in _waves(contents):
            self._system.pipe({self._object(name): contents[name][1] for name in wave})
        return {name: state for name, (state, _) in contents.items()}

    def _put(self, names: list[str]) -> dict[str, _State]:
        """Uploads files of any size, but for those that are removed meanwhile; returns the states that they were in."""
        before: dict[str, tuple[int, int]] = {}
        while names:
            try:
                before = {name: self._status(name) for name in names}
                self._system.put([str(self.root / name) for name in names], [self._object(name) for name in names])
                break
            except FileNotFoundError:
                there = [name for name in names if (self.root / name).exists()]
                if there == names:  # it is the bucket that is not there
                    raise
                before, names = {}, there
        return {name: (*status, self._digest(name, status)) for name, status in before.items()}

    def _digest(self, name: str, status: tuple[int, int]) -> str:
        """sha256 of a file that is still as it was; empty for another, which so counts as changed."""
        try:
            digest = file_digest(self.root / name)
            return digest if self._status(name) == status else ""
        except FileNotFoundError:
            return ""

    def _status(self, name: str) -> tuple[int, int]:
        status = (self.root / name).stat()
        return status.st_size, status.st_mtime_ns

    def _files(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            place = Path(folder).relative_to(self.root)
            for file in sorted(files):
                if _is_mirrored(name := (place / file).as_posix()):
                    yield name

    def _download(self, names: list[str], there: dict[str, _There], known: dict[str, _Known]) -> None:
        """To a place of its own first, so that an interrupted transfer leaves nothing that looks whole."""
        staging = self.root / OWN / "incoming"
        shutil.rmtree(staging, ignore_errors=True)
        if names:
            targets = [staging / name for name in names]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            self._system.get([self._object(name) for name in names], [str(target) for target in targets])
        for name in names:
            place = self.root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if _rank(name) in _RECORDS and place.exists():
                self._keep_records(name, known.get(name))
            os.replace(staging / name, place)
            known[name] = _Known(there[name].etag, *self._status(name))
        shutil.rmtree(staging, ignore_errors=True)

    def _keep_records(self, name: str, one: _Known | None) -> None:
        """As a journal of their own, where they were not published: a killed run left them, and the twins they name."""
        if one is None or (one.size, one.mtime_ns) != self._status(name):
            kept = (self.root / name).with_name(TWINS_JOURNALS.replace("*", f".kept-{uuid.uuid4().hex[:8]}"))
            os.replace(self.root / name, kept)

    def _drop(self, name: str, known: dict[str, _Known]) -> None:
        """Removes what is gone there, unless it changed here since."""
        place, one = self.root / name, known.pop(name)
        if place.exists() and self._status(name) == (one.size, one.mtime_ns):
            place.unlink()
            for folder in place.relative_to(self.root).parents[:-1]:
                try:
                    (self.root / folder).rmdir()
                except OSError:  # not empty
                    break

    def _listing(self) -> dict[str, _There]:
        """What is there, by name."""
        found = self._system.find(self._path, detail=True)
        names = {
            name.removeprefix(f"{self._path}/"): _There(info["ETag"], info["size"]) for name, info in found.items()
        }
        mirrored = {name: one for name, one in names.items() if _is_mirrored(name)}
        for name in mirrored:
            if ".." in PurePosixPath(name).parts or "\\" in name or name.startswith("/"):
                raise DataError(f"{self.url}/{name} is no name for a file of a workspace; remove it from the bucket")
        return mirrored

    def _object(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _known(self) -> dict[str, _Known]:
        if not self._record.exists():
            return {}
        return {name: _Known(**one) for name, one in read_json(self._record)["files"].items()}

    def _write_record(self, known: dict[str, _Known]) -> None:
        write_json(self._record, {"url": self.url, "files": {name: vars(one) for name, one in sorted(known.items())}})


def open_place(place: Path | str, hold: bool = True) -> Path:
    """The folder to work in: the place itself, or an up-to-date mirror of it.

    Args:
        place: folder, file:// or s3:// address.
        hold: whether this machine is going to write there. A mirror that is held already is up to date.

    Raises:
        ConfigError: no such kind of place.
        ResourceError: another machine writes there, or the bucket cannot be reached.
    """
    if (folder := local_folder(place)) is not None:
        return folder
    url = os.fspath(place)
    assert isinstance(url, str)
    mirror = Mirror(url, mirror_folder(url))
    if hold:
        mirror.hold()
    if mirror.root not in _held or not _held[mirror.root].pulled:
        count = mirror.pull()
        logger.info("%s: %d files brought to %s", mirror.url, count, mirror.root)
    return mirror.root


def mirror_of(root: Path) -> Mirror | None:
    """The mirror that a folder is; None for any other folder."""
    record = root / OWN / "mirror.json"
    return Mirror(read_json(record)["url"], root) if record.exists() else None


def release_all() -> None:
    """Publishes what this process has not published yet, and lets others write; called when the process ends."""
    for root, hold in list(_held.items()):
        try:
            if (mirror := mirror_of(root)) is not None:
                mirror.push()
        except UserError as error:
            logger.warning("%s is not published to its end: %s", root, error)
        finally:
            del _held[root]
        try:
            hold.give_back()
        except UserError as error:  # the lease ends by itself
            logger.warning("%s", error)


# Before Python stops starting threads, which finding a host's address takes; `atexit` comes after that.
getattr(threading, "_register_atexit", atexit.register)(release_all)


def _is_mirrored(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(name)
        and not name.endswith((".lock", "/"))
        and parts[0] != "cache"
        and not any(part.startswith(".") and part != ".." for part in parts[:-1])
        and (not parts[-1].startswith(".") or parts[-1] == ".." or fnmatchcase(parts[-1], TWINS_JOURNALS))
    )


def _rank(name: str) -> int:
    """When a file is written: records of twins first, then 0; who names others; what makes a round or a champion."""
    file = PurePosixPath(name)
    if file.name == TWINS_MANIFEST or fnmatchcase(file.name, TWINS_JOURNALS):
        return -1
    if file.name in _LAST:
        return 2 + _LAST.index(file.name)
    return 1 if file.suffix in _NAMING else 0


def _waves(names: Iterable[str]) -> list[list[str]]:
    """The names by rank."""
    ordered = sorted(names, key=lambda name: (_rank(name), name))
    return [[name for name in ordered if _rank(name) == rank] for rank in sorted({_rank(name) for name in ordered})]
