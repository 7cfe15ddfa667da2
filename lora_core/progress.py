"""Progress of what takes long: a bar on stderr with the time left, and a small file that other processes may read."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

FILE = "progress.json"
_TELL_SECONDS = 1.0
_DOING = {
    "train": "training",
    "sweep": "restoring the test photographs",
    "score": "scoring",
    "cache": "reading photographs",
}
_folder: ContextVar[Path | None] = ContextVar("progress_folder", default=None)


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        what: train, sweep, score, …
        unit: what is counted: update, picture, cell.
    """

    what: str
    unit: str
    done: int
    total: int

    @property
    def percent(self) -> float:
        """From 0 to 100; 0 where the end is not known."""
        return min(100.0, 100.0 * self.done / self.total) if self.total else 0.0


def progress_in_words(progress: Progress) -> str:
    """'training, 1,240 of 5,000 updates'."""
    doing = _DOING.get(progress.what, progress.what)
    units = progress.unit if progress.total == 1 else f"{progress.unit}s"
    return f"{doing}, {progress.done:,} of {progress.total:,} {units}" if progress.total else doing


@contextmanager
def told_in(folder: Path) -> Iterator[None]:
    """The bars of this block keep `folder/progress.json` up to date."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def progress_bar(what: str, unit: str, total: int, done: int = 0) -> Any:
    """A tqdm bar on stderr that has `done` of `total` behind it; on a file or a pipe, a line now and then."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return _Bar(
        desc=what, unit=unit, total=total, initial=done, dynamic_ncols=True, mininterval=interval, maxinterval=interval
    )


def read_progress(folder: Path) -> Progress | None:
    """The progress that was told last below a folder, at most two levels down; None where nothing was.

    Processes that share one job tell each in a folder of its own (`0-of-2`); what they have done is added up.
    """
    told = [
        (file, found) for pattern in ("*/", "*/*/") for file in folder.glob(pattern + FILE) if (found := _read(file))
    ]
    if not told:
        return None
    last, newest = max(told, key=lambda pair: _written(pair[0]))
    parts = [found for file, found in told if _job(file) == _job(last) and found.what == newest.what]
    return Progress(newest.what, newest.unit, sum(one.done for one in parts), sum(one.total for one in parts))


def _job(file: Path) -> tuple[Path, str]:
    """The same for the parts of one job, another where it was cut into more or fewer of them before."""
    return file.parent.parent, file.parent.name.partition("-of-")[2]


class _Bar(tqdm):
    """A bar that also tells in a file, about every second and at its end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._file, self._told = folder / FILE if (folder := _folder.get()) else None, 0.0
        super().__init__(*arguments, **options)
        self._tell()

    def update(self, n: float | None = 1) -> bool | None:
        shown = super().update(n)
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self._tell()
        return shown

    def close(self) -> None:
        super().close()
        self._tell()

    def _tell(self) -> None:
        """No fsync: a power cut may lose it. A full disk ends the work elsewhere, with a better message."""
        self._told = time.monotonic()
        if self._file is None:
            return
        temporary = self._file.with_name(f".{FILE}.{os.getpid()}.tmp")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            progress = Progress(str(self.desc).removesuffix(": "), self.unit, int(self.n), int(self.total or 0))
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
            os.replace(temporary, self._file)


def _read(file: Path) -> Progress | None:
    try:
        return Progress(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # gone meanwhile, or nothing of ours


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
