"""What was made: the manifest of a folder of degraded twins, and the journal that keeps it true through a kill.

`degradation.jsonl` has one line a twin, sorted by file name, and appears whole. While a folder is being made, lines
go to a hidden journal *before* the twin is put in place. So every twin of ours is on record at any moment, whatever
is not on record was made by someone else, and a journal that a killed run left behind is merged by the next one.
Runs that share a folder out keep a journal each and leave the manifest to the run that merges them.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_core.errors import DataError, ResourceError
from lora_core.files import write_text
from lora_core.share import WHOLE, Share
from lora_core.workspace import TWINS_JOURNALS, TWINS_MANIFEST

_JOURNAL = TWINS_JOURNALS.replace("*", "")


@dataclass(frozen=True)
class Record:
    """How one degraded twin was made.

    Attributes:
        file: its name, which is also the photograph's.
        source: sha256 of the photograph's bytes.
        output: sha256 of the twin's bytes.
        preset: name of the recipe.
        seed: seed of the data set.
        recipe: digest of preset, seed and the recipe's ranges.
        parameters: everything that was drawn; see `Degraded`.
    """

    file: str
    source: str
    output: str
    preset: str
    seed: int
    recipe: str
    parameters: dict[str, Any]

    def line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"


class Journal:
    """The records of a run that is going on; safe to add to from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8", newline="\n")
        self._lock = threading.Lock()

    def add(self, record: Record) -> None:
        """Puts a record on the disk.

        Raises:
            ResourceError: the disk is full.
        """
        try:
            with self._lock:
                self._file.write(record.line())
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise ResourceError(f"cannot write {self._path}: {error.strerror or error}; check space") from error

    def close(self) -> None:
        """Closes the file and leaves it where it is."""
        self._file.close()


def read_manifest(folder: Path) -> dict[str, Record]:
    """The records of a folder by file name, those of a killed run included.

    Raises:
        DataError: the manifest is not one.
    """
    records = _read_lines(folder / TWINS_MANIFEST, torn_end=False)
    for journal in _journals(folder):
        records.update(_read_lines(journal, torn_end=True))
    return records


def write_manifest(folder: Path, records: dict[str, Record]) -> None:
    """Replaces the manifest and clears the journals, whose records must be among `records`."""
    journals = _journals(folder)
    write_text(folder / TWINS_MANIFEST, "".join(records[name].line() for name in sorted(records)))
    for journal in journals:
        journal.unlink(missing_ok=True)


@contextmanager
def open_journal(folder: Path, records: dict[str, Record], share: Share = WHOLE) -> Iterator[Journal]:
    """Starts an empty journal in a folder, which is created; the records so far go to the manifest first.

    The journal of a share goes on where an earlier one of that share ended.

    Raises:
        ResourceError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (_JOURNAL if share.whole else TWINS_JOURNALS.replace("*", f".{share}"))
        if share.whole:
            write_manifest(folder, records)
        else:  # a kill may have cut its last line
            write_text(path, "".join(record.line() for record in _read_lines(path, torn_end=True).values()))
        journal = Journal(path)
    except OSError as error:
        raise ResourceError(f"cannot write in {folder}: {error.strerror or error}; check its permissions") from error
    try:
        yield journal
    finally:
        journal.close()


def _journals(folder: Path) -> list[Path]:
    """That of a run which did the whole first: what shares made afterwards is newer."""
    return sorted(folder.glob(TWINS_JOURNALS), key=lambda path: (path.name != _JOURNAL, path))


def _read_lines(path: Path, torn_end: bool) -> dict[str, Record]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError) as error:
            if torn_end and number == len(lines):  # cut by a kill: its twin was never put in place
                break
            raise DataError(
                f"{path}, line {number}: not a record of a degraded photograph; move the degraded photographs of "
                f"{path.parent} away and have them made again"
            ) from error
        records[record.file] = record
    return records
