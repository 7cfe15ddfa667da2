"""Photographs held in memory as bytes, cropped by position."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_core.errors import DataError
from lora_core.images import list_photos, read_rgb
from lora_core.randomness import numpy_generator, shuffled_index


@dataclass(frozen=True)
class PhotoPool:
    """Decoded photographs.

    Attributes:
        names: file name without suffix, which is the caption of a class-named file.
        pixels: one (height, width, 3) uint8 RGB array a photograph.
    """

    names: tuple[str, ...]
    pixels: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, folders: list[Path], at_least: int) -> "PhotoPool":
        """Reads every photograph whose short side has `at_least` pixels.

        Raises:
            DataError: no such photograph in the folders.
        """
        names, pixels = [], []
        for folder in folders:
            for path in list_photos(folder):
                image = read_rgb(path)
                if min(image.shape[:2]) >= at_least:
                    names.append(path.stem)
                    pixels.append(image)
        if not names:
            raise DataError(f"no photograph of at least {at_least} pixels in {', '.join(map(str, folders))}")
        return cls(tuple(names), tuple(pixels))

    def crops(self, start: int, count: int, size: int, seed: int) -> np.ndarray:
        """Crops `start` to `start + count` of the endless stream, half of them mirrored.

        Returns:
            (count, 3, size, size) float32 in [-1, 1].
        """
        batch = np.empty((count, size, size, 3), np.uint8)
        for row, position in enumerate(range(start, start + count)):
            image = self.pixels[shuffled_index(position, len(self.pixels), "photos", seed)]
            draw = numpy_generator("crop", seed, position)
            top = draw.integers(image.shape[0] - size + 1)
            left = draw.integers(image.shape[1] - size + 1)
            crop = image[top : top + size, left : left + size]
            batch[row] = crop[:, ::-1] if draw.random() < 0.5 else crop
        return batch.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
