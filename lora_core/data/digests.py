"""What was read of photographs, so that no stage of a round reads 100,000 of them again. Imports no torch.

`cache/digests.sqlite` remembers digest, size and whether it decodes, by path and by all that the file system says of a
file: its length and its times of content and of metadata (tools that restore the one change the other). As git's index
does, it mistrusts what is fresh: a file that changed in the two seconds before it was read may change again within one
tick of the file system's clock, so it is read but not remembered. The store decides nothing. Where it is missing,
locked or cannot be written, files are read; where it is damaged, it is made anew.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lora_core.errors import DataError
from lora_core.files import file_digest
from lora_core.images import Unreadable, photo_size, read_photo
from lora_core.room import Room
from lora_core.workspace import Workspace

logger = logging.getLogger(__name__)

_TABLE = "photographs_2"  # the number is raised with the columns
_STATE = ("bytes", "content_ns", "metadata_ns")
_FACTS = ("digest", "size", "fault")
_COLUMNS = ", ".join([*(f"{name} integer" for name in _STATE), *(f"{name} text" for name in _FACTS)])
_CREATE = f"create table if not exists {_TABLE} (path text primary key, {_COLUMNS}) without rowid"
_FRESH = 2_000_000_000  # nanoseconds; the coarsest clock of a file system in use is FAT's
_AT_ONCE = 512
_DECODING = Room(100_000_000)  # pixels at once
_State = tuple[int, int, int]


class DigestStore:
    """Digests and sizes of files, remembered where a workspace is given.

    Several processes may use one file. A store is used by one thread.
    """

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._root = os.path.join(workspace.root, "") if workspace else ""
        self._file = workspace.digests if workspace and workspace.root.is_dir() else None

    def digests(self, paths: Sequence[str]) -> Iterator[str]:
        """sha256 of each file's bytes, as hexadecimal text, in order.

        Raises:
            DataError: a file cannot be read.
        """
        return self._each(paths, "digest", lambda path: file_digest(Path(path)))

    def sizes(self, paths: Sequence[str], strict: bool = True) -> np.ndarray:
        """(files, 2) int32, width and height of each photograph as it is read, upright, in pixels.

        Args:
            paths: of the photographs.
            strict: whether a file that is no image is an error, or has the size 0 x 0.

        Raises:
            DataError: a file cannot be read, or, where it is strict, is no image.
        """
        sizes = np.zeros((len(paths), 2), np.int32)
        for number, text in enumerate(self._each(paths, "size", _size if strict else _size_or_none)):
            sizes[number] = text.split()
        return sizes

    def unreadable(self, paths: Sequence[str], progress: Callable[[int], object] = lambda _: None) -> list[Unreadable]:
        """The photographs that cannot be decoded, with the reason; `progress` is called with the number looked at."""
        bad = []
        for number, fault in enumerate(self._each(paths, "fault", _fault), 1):
            if fault:
                bad.append(Unreadable(Path(paths[number - 1]), fault))
            progress(number)
        return bad

    def _each(self, paths: Sequence[str], column: str, read: Callable[[str], str]) -> Iterator[str]:
        """What a column says of each file, from the store or from the file; a bounded number are in work at once."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for first in range(0, len(paths), _AT_ONCE):
                chunk = paths[first : first + _AT_ONCE]
                now = time.time_ns()
                states = [_state(path) for path in chunk]
                values = self._recall(chunk, states, column)
                unknown = [number for number, value in enumerate(values) if value is None]
                for number, value in zip(unknown, pool.map(read, [chunk[one] for one in unknown]), strict=True):
                    values[number] = value
                fresh = [
                    (self._key(chunk[one]), *states[one], values[one])
                    for one in unknown
                    if max(states[one][1:]) + _FRESH <= now
                    and not _bad(column, values[one])
                    and _state(chunk[one]) == states[one]
                ]
                self._remember(fresh, column)
                yield from values  # type: ignore[misc]

    def _recall(self, paths: Sequence[str], states: Sequence[_State], column: str) -> list[str | None]:
        keys = [self._key(path) for path in paths]

        def work(store: sqlite3.Connection) -> dict[str, tuple[_State, str]]:
            places = ",".join("?" * len(keys))
            query = f"select path, bytes, content_ns, metadata_ns, {column} from {_TABLE} where path in ({places})"
            return {
                path: ((size, content, metadata), value)
                for path, size, content, metadata, value in store.execute(query, keys)
            }

        found = self._use(work) or {}
        nothing = (None, None)
        known = (found.get(key, nothing) for key in keys)
        return [value if stored == state else None for (stored, value), state in zip(known, states, strict=True)]

    def _remember(self, rows: list[tuple[Any, ...]], column: str) -> None:
        same = " and ".join(f"{name}=excluded.{name}" for name in _STATE)
        others = ", ".join(f"{name}=case when {same} then {name} end" for name in _FACTS if name != column)
        statement = f"""
            insert into {_TABLE} (path, {", ".join(_STATE)}, {column}) values (?, ?, ?, ?, ?)
            on conflict (path) do update set {column}=excluded.{column}, {others},
            {", ".join(f"{name}=excluded.{name}" for name in _STATE)}"""
        if rows:
            self._use(lambda store: store.executemany(statement, rows))

    def _use(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Does work in one transaction; None where the store cannot be used."""
        for attempt in range(2):
            if self._file is None:
                return None
            try:
                self._file.parent.mkdir(exist_ok=True)
                store = sqlite3.connect(self._file, timeout=10)
                try:
                    with store:
                        store.execute("pragma synchronous=off")  # what a lost power supply damages is made anew
                        store.execute(_CREATE)
                        return work(store)
                finally:
                    store.close()
            except (sqlite3.OperationalError, OSError) as error:
                logger.warning("%s cannot be used (%s); photographs are read again", self._file, error)
                self._file = None
            except sqlite3.DatabaseError as error:
                logger.warning("%s is damaged (%s); it is made anew", self._file, error)
                if attempt:
                    self._file = None
                else:
                    with suppress(OSError):
                        self._file.unlink(missing_ok=True)
        return None

    def _key(self, path: str) -> str:
        """Relative to the workspace, which may be moved."""
        return path.removeprefix(self._root)


def _state(path: str) -> _State:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _bad(column: str, value: str | None) -> bool:
    """Whether a file was found damaged; it is looked at again next time."""
    return value == "0 0" or (column == "fault" and value != "")


def _size(path: str) -> str:
    width, height = photo_size(Path(path))
    return f"{width} {height}"


def _size_or_none(path: str) -> str:
    try:
        return _size(path)
    except DataError:
        return "0 0"


def _fault(path: str) -> str:
    """Why a photograph cannot be decoded; empty where it can."""
    try:
        width, height = photo_size(Path(path))
        with _DECODING.take(width * height):
            read_photo(Path(path))
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
