"""Files that appear whole or not at all, and digests of what they hold."""

import hashlib
import json
import os
import platform
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lora_core.errors import DataError, ResourceError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renames it to `path` when the block ends well, else removes it.

    Raises:
        ResourceError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{_mark()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}; check space and permissions") from error
    finally:
        with suppress(OSError):  # must not hide the error above
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """As `whole_file`, for a folder: an existing `path` is replaced only after the new one is complete."""
    temporary = path.with_name(f".{path.name}.{_mark()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        if path.exists():
            old = path.with_name(f".{path.name}.{_mark()}.old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}; check space and permissions") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _mark() -> str:
    """Tells this thread from others, on other machines that share the folder too: containers count from one each."""
    return f"{threading.get_native_id()}-{zlib.crc32(platform.node().encode()):08x}"


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with plain newlines, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def finished_files(folder: Path, suffix: str) -> list[Path]:
    """Files that end in `suffix`, by name; not those that `whole_file` is writing, or left where it was killed."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets a library write to a temporary name, then puts the file in place."""
    with whole_file(path) as temporary:
        write(temporary)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form, as hexadecimal text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Checks the free disk before the first expensive second.

    Args:
        folder: where the files will go; need not exist yet.
        needed: bytes.

    Raises:
        ResourceError: less than `needed` is free.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            f"{purpose} needs about {needed / 2**20:,.0f} MiB in {folder}, only {free / 2**20:,.0f} MiB are free; "
            "free some space or choose another workspace"
        )
