"""Folders of computed records that several processes make together, and that appear whole or not at all.

The first process makes the file in its full length under a hidden name, each writes its share of the records, and the
first puts the folder in place. A process that fails leaves a note before the others meet it at the barrier, so that all
of them stop; one that is killed is the business of whoever started them. What a killed run had written is used by the
next: the hidden folder belongs to the same content, and every record has a checksum. Imports no torch.
"""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lora_core import errors
from lora_core.errors import DataError, ResourceError
from lora_core.files import read_json, require_space, write_json

logger = logging.getLogger(__name__)

RECORDS = "records.bin"
Share = tuple[int, int]
Barrier = Callable[[], object]


def alone() -> None:
    """The barrier of a single process."""


def make_together(
    path: Path,
    manifest: dict[str, Any],
    work: Callable[[Path], None],
    purpose: str,
    share: Share = (0, 1),
    barrier: Barrier = alone,
) -> Path:
    """Makes a folder where it is missing.

    Args:
        path: its name is made from `manifest["key"]`, which stands for everything that decides the content.
        manifest: what `done.json` will say; `bytes` is the length of the file of records.
        work: writes this process' share of the records into the file that it is given.
        purpose: what the folder is, for errors.
        share: number of this process, and of all; each calls this function.
        barrier: returns once every process has called it; it waits as long as the others work longer.

    Returns:
        The file of records.

    Raises:
        DataError: the folder holds something else than its name says, or is cut short.
        ResourceError: the disk is too small or cannot be written, or another process of this run failed.
    """
    rank, world = share
    folder = _Folder(path, manifest, purpose)
    with ExitStack() as stack:
        failure = _attempt(lambda: folder.begin(stack)) if rank == 0 else None
        barrier()
        if failure:
            raise failure
        if folder.done():
            return path / RECORDS
        if not (folder.begun / "ready").exists():
            raise ResourceError(f"{purpose}: the first process could not begin {path}; its own message says why")
        failure = _attempt(lambda: work(folder.begun / RECORDS))
        failure = _attempt(lambda: folder.note(rank, failure)) or failure
        barrier()
        failure = failure or _attempt(lambda: folder.look(world))
        barrier()  # nobody cleans up before all have looked
        if rank == 0:
            failure = failure or _attempt(folder.finish)
            if isinstance(failure, DataError):  # mended, it has another key
                shutil.rmtree(folder.begun, ignore_errors=True)
        barrier()
    if failure:
        raise failure
    if not folder.done():
        raise ResourceError(f"{purpose}: the first process could not finish {path}; its own message says why")
    return path / RECORDS


def _attempt(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except Exception as error:  # kept until the other processes know; then raised
        return error
    return None


@dataclass(frozen=True)
class _Folder:
    """The folder, and the hidden one that becomes it."""

    path: Path
    manifest: dict[str, Any]
    purpose: str

    @property
    def begun(self) -> Path:
        """What is being made, or was when a run was killed."""
        return self.path.with_name(f".{self.path.name}.begun")

    def done(self) -> bool:
        """Whether the folder is there and is what its name says."""
        if not (self.path / "done.json").exists():
            return False
        way_out = f"delete the folder {self.path}, and it is made again"
        try:
            found = read_json(self.path / "done.json")
            length = (self.path / RECORDS).stat().st_size
        except (DataError, OSError) as error:
            raise DataError(f"{self.purpose}: {error}; {way_out}") from error
        if found != self.manifest:
            known = found if isinstance(found, dict) else {}
            key = next((key for key, value in self.manifest.items() if known.get(key) != value), "content")
            says = f"says {key} {known.get(key)!r}, not {self.manifest.get(key)!r}"
            raise DataError(f"{self.purpose}: {self.path / 'done.json'} {says}; {way_out}")
        if length != self.manifest["bytes"]:
            raise DataError(
                f"{self.purpose}: {self.path / RECORDS} has {length:,} bytes of {self.manifest['bytes']:,}; {way_out}"
            )
        return True

    def begin(self, stack: ExitStack) -> None:
        """Makes the file, unless all is there; locks out the other runs of this workspace until `stack` ends."""
        if self.done():
            return
        stack.callback(self._lock().release)
        (self.begun / "ready").unlink(missing_ok=True)  # of a killed run: the others must not take it for this one's
        if self.done():  # by the run that was waited for
            return
        records = self.begun / RECORDS
        if self._key() != self.manifest or not records.exists() or records.stat().st_size != self.manifest["bytes"]:
            shutil.rmtree(self.begun, ignore_errors=True)
            require_space(self.path, self.manifest["bytes"], self.purpose)
            try:
                self.begun.mkdir(parents=True)
                with records.open("wb") as file:
                    file.truncate(self.manifest["bytes"])
            except OSError as error:
                raise ResourceError(f"cannot write {self.begun}: {error.strerror or error}") from error
            write_json(self.begun / "key.json", self.manifest)
        for old in [*self.begun.glob("ended-*"), *self.begun.glob("failed-*")]:
            old.unlink()
        (self.begun / "ready").touch()

    def note(self, rank: int, failure: Exception | None) -> None:
        """Tells the other processes how this one's share ended."""
        if failure is None:
            (self.begun / f"ended-{rank}").touch()
        else:
            write_json(self.begun / f"failed-{rank}", {"kind": type(failure).__name__, "message": str(failure)})

    def look(self, world: int) -> None:
        """Raises what another process failed by."""
        for rank in range(world):
            if (self.begun / f"failed-{rank}").exists():
                note = read_json(self.begun / f"failed-{rank}")
                kind = getattr(errors, note["kind"], ResourceError)
                raise kind(f"{note['message']} (process {rank} of {world})")
            if not (self.begun / f"ended-{rank}").exists():
                raise ResourceError(f"{self.purpose}: process {rank} of {world} did not do its share; start it again")

    def finish(self) -> None:
        """Puts the folder in place."""
        with (self.begun / RECORDS).open("r+b") as file:
            os.fsync(file.fileno())
        for note in [*self.begun.glob("ended-*"), self.begun / "ready", self.begun / "key.json"]:
            note.unlink()
        write_json(self.begun / "done.json", self.manifest)
        shutil.rmtree(self.path, ignore_errors=True)  # without done.json: somebody deleted a part of it
        os.replace(self.begun, self.path)

    def _key(self) -> Any:
        """The manifest of what was begun, if that can be told."""
        try:
            return read_json(self.begun / "key.json")
        except DataError:
            return None

    def _lock(self) -> FileLock:
        """A lock that is freed when the process ends, however it ends."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot write {self.path.parent}: {error.strerror or error}") from error
        lock = FileLock(str(self.path.with_name(f".{self.path.name}.lock")))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            logger.info("another run makes %s; waiting for it", self.path)
            lock.acquire()
        return lock
