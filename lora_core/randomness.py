"""Randomness as a function of position.

Every random draw in the project is seeded from (seed, stream, position), never taken from a generator that
lives on between steps. A run that resumes at image n draws what an undisturbed run draws there, without any
saved generator or sampler state (the shape of NVlabs/edm2's training loop).
"""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from any sequence of numbers and names; equal parts give an equal seed on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """NumPy generator (Philox) for this position."""
    return np.random.Generator(np.random.Philox(seed_for(*parts)))


def torch_generator(*parts: int | str) -> "torch.Generator":
    """CPU generator for this position; noise is drawn on the CPU so that it is the same on every device."""
    import torch

    return torch.Generator().manual_seed(seed_for(*parts))


def shuffled_index(position: int, size: int, *stream: int | str) -> int:
    """Which of `size` items comes at `position` of an endless stream that is reshuffled every `size` items."""
    epoch, offset = divmod(position, size)
    return int(_order(size, epoch, *stream)[offset])


@lru_cache(maxsize=16)
def _order(size: int, epoch: int, *stream: int | str) -> np.ndarray:
    return numpy_generator("order", *stream, epoch).permutation(size).astype(np.uint32)
