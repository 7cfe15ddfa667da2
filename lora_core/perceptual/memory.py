"""Features of originals, remembered: every cell of a sweep is compared with the same ones."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ROOM = 512 * 2**20
"""Bytes that one network may remember: about 48 photographs of 512x512 with AlexNet, four with VGG-16."""


class Memory:
    """A function from (n, h, w, 3) uint8 pictures to feature maps that keeps its answers while there is room.

    What was first seen stays, not what was last seen: originals come round in one order, so a memory that forgets the
    oldest would always just have forgotten what comes next.
    """

    def __init__(self, features: "Callable[[np.ndarray], list[torch.Tensor]]") -> None:
        self._features = features
        self._kept: dict[bytes, list[torch.Tensor]] = {}
        self._room = ROOM

    def __call__(self, pictures: np.ndarray) -> "list[torch.Tensor]":
        """The feature maps, made or remembered."""
        key = hashlib.blake2b(pictures.tobytes(), digest_size=16).digest() + str(pictures.shape).encode()
        if key in self._kept:
            return self._kept[key]
        features = self._features(pictures)
        size = sum(one.nbytes for one in features)
        if size <= self._room:
            self._room -= size
            self._kept[key] = features
        return features
