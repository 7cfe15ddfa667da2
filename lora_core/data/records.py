"""Files of many arrays, each with a checksum, that are read through the page cache and never loaded.

A record is its numbers in the file's type, a mark, and a CRC-32 of them that begins at the record's own number: damage,
a hole and a record in another's place are all found when it is read. Imports no torch.
"""

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
    """Reads records; only what is read comes into memory, and the operating system may drop it again."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self._bytes = np.asarray(np.memmap(path, np.uint8, "r"))
        self._dtype = np.dtype(dtype)

    def read(self, number: int, offset: int, values: int) -> np.ndarray | None:
        """The numbers of a record, (values,), not to be written to; None where it is damaged."""
        end = offset + values * self._dtype.itemsize
        data = self._bytes[offset:end]
        stored = self._bytes[end : end + _TRAILER].tobytes()
        return data.view(self._dtype) if stored == _trailer(data.data, number) else None


def _trailer(data: bytes | memoryview, number: int) -> bytes:
    return _MARK + zlib.crc32(data, number & 0xFFFFFFFF).to_bytes(4, "little")
