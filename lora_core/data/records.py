"""Files of many arrays, each with a checksum, of which only what is asked for is read.

They are read and not mapped. Mapped pages count as the process' memory until the system takes them back, which in a
long run is the whole file; and a mapped file that is cut short, or on a failing disk, ends the process without a word.

A record is its numbers in the file's type, a mark, and a CRC-32 of them that begins at the record's own number: damage,
a hole and a record in another's place are all found when it is read. Imports no torch.
"""

import os
import threading
import weakref
import zlib
from pathlib import Path

import numpy as np

_MARK = b"row1"  # no hole has it, whatever the checksum of zeros
_TRAILER = 8
_ALIGNMENT = 8


def record_bytes(values: int, dtype: str) -> int:
    """Bytes that a record of so many numbers takes in the file."""
    size = values * np.dtype(dtype).itemsize + _TRAILER
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class RecordWriter:
    """Writes records into a file that has its full length already; several processes may write to one file."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._file = path.open("r+b")
        self._dtype = np.dtype(dtype)

    def write(self, number: int, offset: int, values: np.ndarray) -> None:
        """Puts a record at its place."""
        data = np.ascontiguousarray(values, self._dtype).tobytes()
        self._file.seek(offset)
        self._file.write(data + _trailer(data, number))

    def close(self) -> None:
        """Hands everything to the operating system."""
        self._file.close()


class RecordFile:
    """Reads records, from any thread."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._seeking = threading.Lock()
        self.close = weakref.finalize(self, os.close, self._file)

    def read(self, number: int, offset: int, values: int) -> np.ndarray | None:
        """The numbers of a record, (values,), not to be written to; None where it is damaged or cannot be read."""
        length = values * self._dtype.itemsize
        try:
            found = self._read(offset, length + _TRAILER)
        except OSError:
            return None
        data = memoryview(found)[:length]
        return np.frombuffer(data, self._dtype) if found[length:] == _trailer(data, number) else None

    def _read(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file, length, offset)
        with self._seeking:  # Windows
            os.lseek(self._file, offset, os.SEEK_SET)
            return os.read(self._file, length)


def _trailer(data: bytes | memoryview, number: int) -> bytes:
    return _MARK + zlib.crc32(data, number & 0xFFFFFFFF).to_bytes(4, "little")
