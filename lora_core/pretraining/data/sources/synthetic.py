"""Drawn shapes whose captions are true by construction: for tests, and to see whether training learns captions."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lora_core.images import encode_image
from lora_core.pretraining.data.sources.entry import Found, Reject
from lora_core.pretraining.data.sources.importing import Sample, imported
from lora_core.pretraining.data.sources.shards import shard_entries
from lora_core.pretraining.recipe import DataSection
from lora_core.randomness import numpy_generator

COUNT = 5000
"""Drawings where data.num_samples is empty."""
SHAPES = ("circle", "triangle", "square", "pentagon", "star")
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 70, 200),
    "yellow": (235, 210, 50),
    "purple": (130, 50, 160),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
}
_CORNERS = {"triangle": 3, "square": 4, "pentagon": 5, "star": 10}
_SUBPIXEL_BITS = 4


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """Draws shapes of data.image_size pixels into shards under `folder`/import and goes through these."""
    count, side = section.num_samples or COUNT, section.image_size

    def samples(first: int) -> Iterator[Sample]:
        for number in range(first, count):
            rgb, caption = drawing(seed, number, side)
            yield encode_image(rgb, ".png"), caption

    origin = {"seed": seed, "side": side, "count": count}
    for shard in imported(folder / "import", origin, samples):
        yield from shard_entries(shard)


def drawing(seed: int, number: int, side: int) -> tuple[np.ndarray, str]:
    """One shape on a background of another colour, (side, side, 3) uint8, and its caption."""
    draw = numpy_generator("synthetic", seed, number)
    colour, background = draw.choice(list(COLOURS), 2, replace=False)
    shape = SHAPES[int(draw.integers(len(SHAPES)))]
    radius = side * draw.uniform(0.15, 0.35)
    centre = draw.uniform(radius, side - radius, 2)
    turn = draw.uniform(0, 2 * np.pi)
    rgb = np.full((side, side, 3), COLOURS[background], np.uint8)
    scale = 2**_SUBPIXEL_BITS
    if shape == "circle":
        x, y = (round(float(value) * scale) for value in centre)
        cv2.circle(rgb, (x, y), round(radius * scale), COLOURS[colour], -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    else:
        corners = _CORNERS[shape]
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        reach = radius * np.where(np.arange(corners) % 2, 0.45, 1.0) if shape == "star" else np.full(corners, radius)
        points = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(rgb, [np.rint(points * scale).astype(np.int32)], COLOURS[colour], cv2.LINE_AA, _SUBPIXEL_BITS)
    return rgb, f"a {colour} {shape} on a {background} background"
