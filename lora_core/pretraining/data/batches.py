"""Photographs and captions by position of an endless shuffled stream.

Record, crop, mirroring and caption of a position are functions of (seed, position) alone: a run that goes on in the
middle sees what an undisturbed one does, whatever is in the cache of decoded photographs.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from lora_core.errors import DataError
from lora_core.images import read_rgb_bytes
from lora_core.prefetch import Prefetcher as Prefetcher
from lora_core.pretraining.data.order import shuffled
from lora_core.pretraining.data.records import Record, RecordSet, read_bytes
from lora_core.pretraining.recipe import DataSection
from lora_core.randomness import numpy_generator

CACHE_BYTES = 512 * 2**20
# Below this many broken photographs a run goes on, however few there are in all.
_ALWAYS_ALLOWED = 3


class ImageStream:
    """The endless shuffled stream over one set; may be shared by threads.

    A photograph that cannot be decoded is replaced, everywhere, by one that is a function of its number. Each is
    reported once, and more than data.reject_limit of them (or three) end the run.
    """

    def __init__(
        self,
        records: RecordSet,
        section: DataSection,
        seed: int,
        on_reject: Callable[[Record, str], object] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ):
        """Reads nothing yet.

        Args:
            on_reject: called with a record that cannot be decoded, and why; without it the first one is a DataError.
            cache_bytes: memory for decoded photographs.
        """
        self.records, self.section, self.seed = records, section, seed
        self._on_reject = on_reject
        self._broken: set[int] = set()
        self._lock = threading.Lock()
        self._cache = _Cache(cache_bytes)

    def record_number(self, position: int) -> int:
        """Which record comes at a position; of those known to be broken, their replacement."""
        return self._standing(shuffled(position, len(self.records), "images", self.seed))

    def pixels(self, positions: Sequence[int], size: int) -> np.ndarray:
        """Crops, mirrored where drawn.

        Returns:
            (n, 3, size, size) float32 in [-1, 1].

        Raises:
            DataError: too many photographs cannot be decoded.
        """
        crops = np.stack([self._crop(position, size) for position in positions])
        return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1

    def captions(self, positions: Sequence[int]) -> list[str]:
        """One caption a position, of alternatives the one drawn.

        Ask for them after the pixels: only then it is known which record was replaced.
        """
        return [self._caption(position) for position in positions]

    def batch(self, positions: Sequence[int], size: int) -> tuple[np.ndarray, list[str]]:
        """Pixels and captions of the same records. Raises as `pixels`."""
        return self.pixels(positions, size), self.captions(positions)

    def names(self, positions: Sequence[int]) -> list[str]:
        """The records' names."""
        return [self.records[self.record_number(position)].name for position in positions]

    def whole(self, number: int, side: int) -> np.ndarray:
        """The whole photograph of a record, or of its replacement, (height, width, 3) uint8 sRGB.

        Its short side is `side`; with data.framing=crop at least that, as photographs are only enlarged then.

        Raises:
            DataError: too many photographs cannot be decoded.
        """
        while True:
            number = self._standing(number)
            image = self._cache.get((number, side))
            if image is None:
                record = self.records[number]
                try:
                    data = read_bytes(record.file, record.offset, record.length)
                    image = self._framed(read_rgb_bytes(data, record.name), side)
                except DataError as error:
                    self._reject(number, record, str(error).removeprefix(f"{record.name}: "))
                    continue
                self._cache.put((number, side), image)
            return image

    def _crop(self, position: int, size: int) -> np.ndarray:
        image = self.whole(self.record_number(position), max(size, self.section.image_size))
        draw = numpy_generator("crop", self.seed, position)
        top, left = (int(draw.integers(length - size + 1)) for length in image.shape[:2])
        crop = image[top : top + size, left : left + size]
        return crop[:, ::-1] if self.section.flip and draw.random() < 0.5 else crop

    def _caption(self, position: int) -> str:
        alternatives = self.records[self.record_number(position)].caption.split("\n")
        return alternatives[int(numpy_generator("alternative", self.seed, position).integers(len(alternatives)))]

    def _framed(self, image: np.ndarray, side: int) -> np.ndarray:
        """Resized so that the short side is `side`; at full resolution only where it is smaller."""
        short = min(image.shape[:2])
        if short == side or (self.section.framing == "crop" and short > side):
            return image
        height, width = (max(side, round(length * side / short)) for length in image.shape[:2])
        method = cv2.INTER_AREA if short > side else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (width, height), interpolation=method))

    def _standing(self, number: int) -> int:
        """The record that stands for this one: itself, or the first of a drawn sequence that is not known broken."""
        standing, attempt = number, 0
        while standing in self._broken:
            standing = shuffled(attempt, len(self.records), "instead", self.seed, number)
            attempt += 1
        return standing

    def _reject(self, number: int, record: Record, reason: str) -> None:
        with self._lock:
            if number in self._broken:
                return
            allowed = max(_ALWAYS_ALLOWED, self.section.reject_limit * len(self.records))
            broken = len(self._broken) + 1
            if self._on_reject is None:
                raise DataError(f"{record.name} in {record.file} cannot be read: {reason}; mend it and survey again")
            self._on_reject(record, reason)
            if broken > allowed or broken >= len(self.records):
                raise DataError(
                    f"{broken} of {len(self.records)} photographs cannot be decoded, the last: {record.name}: {reason}"
                    "; mend or remove them, or raise data.reject_limit"
                )
            self._broken.add(number)


def centre_crops(stream: ImageStream, count: int, size: int) -> np.ndarray:
    """Centre crops of the first records of a set, or of all where there are fewer, (n, size, size, 3) uint8."""
    crops = []
    for number in range(min(count, len(stream.records))):
        image = stream.whole(number, max(size, stream.section.image_size))
        top, left = ((length - size) // 2 for length in image.shape[:2])
        crops.append(image[top : top + size, left : left + size])
    return np.stack(crops)


class _Cache:
    """Decoded photographs, the least recently used dropped first."""

    def __init__(self, limit: int):
        self._limit, self._held = limit, 0
        self._images: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def put(self, key: tuple[int, int], image: np.ndarray) -> None:
        with self._lock:
            if key in self._images or image.nbytes > self._limit:
                return
            self._images[key] = image
            self._held += image.nbytes
            while self._held > self._limit:
                self._held -= self._images.popitem(last=False)[1].nbytes
