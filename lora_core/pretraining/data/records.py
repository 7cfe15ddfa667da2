"""The manifest: one row of fixed size a photograph, so that the n-th is found by a seek, whatever their number.

A row holds numbers; names and captions lie in one text file beside it, both per set. A photograph that is a file of its
own stores its folder and is found by the last part of its name, so that the list of places stays short: shards and
folders. Nothing of it is held in memory.
"""

import hashlib
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from lora_core.errors import DataError
from lora_core.files import read_json, value_digest, whole_folder, write_json
from lora_core.randomness import seed_for

SetName = Literal["train", "validation"]
SETS: tuple[SetName, ...] = ("train", "validation")
_BUFFER = 2**20
# Place u4, offset u8, length u4, text offset u8, bytes of the name u4 and of the caption u4, width u4, height u4;
# little-endian, without padding.
_ROW = struct.Struct("<IQIQIIII")


@dataclass(frozen=True, slots=True)
class Record:
    """One photograph and its caption.

    Attributes:
        name: unique; "folder/photo.jpg" of a file of its own, "00000.tar/key" in a shard.
        caption: one line, or several: a set of alternatives, of which training draws one each time.
        file: the photograph, or the shard that holds it.
        offset: first byte of the encoded image in `file`; 0 says that it is the whole file.
        length: bytes of the encoded image.
        width: pixels, as stored: before EXIF orientation.
        height: pixels, as stored.
    """

    name: str
    caption: str
    file: Path
    offset: int
    length: int
    width: int
    height: int


def read_bytes(file: Path, offset: int, length: int) -> bytes:
    """A part of a file.

    Raises:
        DataError: the file cannot be read or ends before the part does.
    """
    try:
        with file.open("rb", buffering=0) as handle:
            handle.seek(offset)
            data = handle.read(length)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error
    if len(data) < length:
        raise DataError(f"{file} ends at byte {offset + len(data)}, {offset + length} were expected")
    return data


class ManifestWriter:
    """Sorts records into train and validation and writes them as they come; made by `open_manifest`."""

    def __init__(self, folder: Path, train_split: float, seed: int):
        self._folder, self._seed = folder, seed
        self._bound = train_split * 2**63
        self._places: dict[Path, int] = {}
        self._sets = {name: _SetWriter(folder, name) for name in SETS}

    def add(self, record: Record) -> None:
        """Appends to the set that a hash of (seed, name) decides, so that it stays where it is when others are added.

        Raises:
            ValueError: a photograph of its own file whose name does not end in the file's.
        """
        if record.offset == 0 and PurePosixPath(record.name).name != record.file.name:
            raise ValueError(f"the record {record.name} does not end in its file's name, {record.file.name}")
        place = record.file if record.offset else record.file.parent
        number = self._places.setdefault(place, len(self._places))
        member: SetName = "train" if seed_for("split", self._seed, record.name) < self._bound else "validation"
        self._sets[member].add(number, record)

    @property
    def counts(self) -> dict[SetName, int]:
        """Records a set."""
        return {name: writer.count for name, writer in self._sets.items()}

    @property
    def digest(self) -> str:
        """sha256 over rows and texts of both sets, in order."""
        return value_digest({name: writer.hash.hexdigest() for name, writer in self._sets.items()})

    def close(self) -> None:
        """Closes the files; may be called twice."""
        for writer in self._sets.values():
            writer.close()

    def finish(self) -> None:
        """Writes the list of places and the summary."""
        self.close()
        write_json(self._folder / "files.json", [str(place.absolute()) for place in self._places])
        write_json(self._folder / "manifest.json", {"digest": self.digest, **self.counts})


@contextmanager
def open_manifest(folder: Path, train_split: float, seed: int) -> Iterator[ManifestWriter]:
    """Yields a writer; the manifest is put in place whole where the block ends well, else an older one stays.

    Args:
        folder: of the manifest alone.
        train_split: share of the records that is trained on, in [0, 1].

    Raises:
        ResourceError: the folder cannot be written.
    """
    with whole_folder(folder) as temporary:
        writer = ManifestWriter(temporary, train_split, seed)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


class RecordSet:
    """One set of a manifest as a sequence of records; may be shared by threads."""

    def __init__(self, folder: Path, name: SetName):
        """Opens the files, which stay open until `close`.

        Raises:
            DataError: there is no whole manifest in the folder.
        """
        summary = read_json(folder / "manifest.json")
        self.digest: str = summary["digest"]
        self._size: int = summary[name]
        self._places = [Path(place) for place in read_json(folder / "files.json")]
        self._lock = threading.Lock()
        try:
            # Without a buffer, which would read thousands of bytes around each row.
            self._rows: BinaryIO = _rows(folder, name).open("rb", buffering=0)
            self._texts: BinaryIO = _texts(folder, name).open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"cannot read the manifest {folder}: {error.strerror or error}; survey again") from error

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> Record:
        if not 0 <= number < self._size:
            raise IndexError(f"record {number} of {self._size}")
        with self._lock:
            self._rows.seek(number * _ROW.size)
            place, offset, length, text, name_bytes, caption_bytes, width, height = _ROW.unpack(
                self._rows.read(_ROW.size)
            )
            self._texts.seek(text)
            data = self._texts.read(name_bytes + caption_bytes)
        name, caption = data[:name_bytes].decode(), data[name_bytes:].decode()
        file = self._places[place] if offset else self._places[place] / PurePosixPath(name).name
        return Record(name, caption, file, offset, length, width, height)

    def close(self) -> None:
        """Closes the files."""
        self._rows.close()
        self._texts.close()


class _SetWriter:
    def __init__(self, folder: Path, name: SetName):
        self._rows = _rows(folder, name).open("wb", buffering=_BUFFER)
        self._texts = _texts(folder, name).open("wb", buffering=_BUFFER)
        self._written = 0
        self.count = 0
        self.hash = hashlib.sha256()

    def add(self, place: int, record: Record) -> None:
        name, caption = record.name.encode(), record.caption.encode()
        text = name + caption
        row = _ROW.pack(
            place,
            record.offset,
            record.length,
            self._written,
            len(name),
            len(caption),
            record.width,
            record.height,
        )
        self._rows.write(row)
        self._texts.write(text)
        self.hash.update(row + text)
        self._written += len(text)
        self.count += 1

    def close(self) -> None:
        self._rows.close()
        self._texts.close()


def _rows(folder: Path, name: SetName) -> Path:
    return folder / f"{name}.rows"


def _texts(folder: Path, name: SetName) -> Path:
    return folder / f"{name}.txt"
