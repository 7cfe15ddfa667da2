"""Views: one crop, one mirroring and one degradation of a photograph.

View 0 takes the degraded twin from its file, every other degrades the photograph anew by the same recipe, at its own
scale and before it is scaled to its bucket. Both halves and the mask are scaled, cropped and mirrored alike. A view is
a function of its pair, the settings and its number; any number from 0 on is a view. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from lora_core.data.buckets import Bucket, scaled_size
from lora_core.data.pair import Pair
from lora_core.degradation import degrade
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import file_digest
from lora_core.images import Photo, read_photo, read_rgb
from lora_core.randomness import numpy_generator
from lora_core.room import Room

if TYPE_CHECKING:
    from torch import Tensor

# A photograph takes up to 90 bytes a pixel while it is degraded, so this many pixels at once take about 4 GB.
_DEGRADING = Room(50_000_000)
_COLOURED = 16  # levels between channels; a grey JPEG has none, a red or blue mark has more


@dataclass(frozen=True)
class View:
    """A view in pixels.

    Attributes:
        clean: (height, width, 3) uint8 sRGB, the bucket's shape.
        degraded: the same of the degraded half.
        mask: (height, width) uint8, 255 where the loss counts in full; None without masks.
    """

    clean: np.ndarray
    degraded: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Rows:
    """Latents of a batch of views, on the CPU.

    Attributes:
        clean: float32 (batch, channels, height, width).
        degraded: the same of the degraded halves.
        mask: float32 (batch, 1, height, width) in [data.unmasked_weight, 1]; None without masks.
    """

    clean: "Tensor"
    degraded: "Tensor"
    mask: "Tensor | None"


class ViewSource(Protocol):
    """Where the latents of views come from."""

    def rows(self, samples: Sequence[tuple[int, int]]) -> Rows:
        """The latents of (pair, view) samples, all of one bucket; from any thread."""


def make_views(pair: Pair, experiment: Experiment, bucket: Bucket, views: Sequence[int]) -> list[View]:
    """Several views of a pair, which is read once.

    Args:
        pair: the pair.
        experiment: seed, data and degradation decide the views.
        bucket: shape of the views; with data.framing=crop they are cut from the photograph at its own scale.
        views: their numbers, from 0.

    Raises:
        DataError: a file cannot be read, the halves or the mask differ in size, the photograph is smaller than the
            bucket and may not be enlarged, or the mask is missing, coloured, transparent or all black.
    """
    photograph = _Photograph(pair, experiment)
    return [_view(photograph, bucket, view) for view in views]


def mask_weights(mask: np.ndarray, factor: int) -> np.ndarray:
    """The mask of latents: (height, width) uint8 to float32 (1, height / factor, width / factor) in [0, 1], means."""
    size = mask.shape[1] // factor, mask.shape[0] // factor
    return cv2.resize(mask.astype(np.float32) / 255, size, interpolation=cv2.INTER_AREA)[None]


class _Photograph:
    """The files of a pair, read once and only as far as they are needed."""

    def __init__(self, pair: Pair, experiment: Experiment) -> None:
        self.pair = pair
        self.experiment = experiment

    @cached_property
    def _file(self) -> Photo:
        return read_photo(self.pair.clean)

    @cached_property
    def _digest(self) -> str:
        return file_digest(self.pair.clean)

    @property
    def clean(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        return self._file.rgb

    @cached_property
    def twin(self) -> np.ndarray:
        """The degraded half as its file has it."""
        twin = self.clean if self.pair.plain else read_rgb(self.pair.degraded)
        if twin.shape != self.clean.shape:
            raise DataError(
                f"{self.pair.degraded} is {_size(twin)}, its clean photograph {_size(self.clean)}; "
                "make or bring it in the same size"
            )
        return twin

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(height, width) uint8."""
        if self.pair.mask_file is None:
            return None
        mask = self._alpha() if self.pair.mask_file == self.pair.clean_file else self._grey()
        if not mask.any() and not self.experiment.data.unmasked_weight:
            raise DataError(
                f"{self.pair.mask_file}: the mask is all black, so nothing would be learnt from the photograph; "
                "remove both, or set data.unmasked_weight above 0"
            )
        return mask

    def degraded(self, view: int) -> np.ndarray:
        """The degraded half of a view, the clean half's shape."""
        section = self.experiment.degradation
        if not view or section.preset == "own" or self.pair.plain:
            return self.twin
        with _DEGRADING.take(self.clean[..., 0].size):
            return degrade(self.clean, section.preset, self._digest, section.seed, view).rgb

    def _alpha(self) -> np.ndarray:
        if self._file.alpha is None:
            raise DataError(
                f"{self.pair.clean_file} has no alpha channel, which data.masks=alpha reads; add one, or use "
                "data.masks=folder"
            )
        return self._file.alpha

    def _grey(self) -> np.ndarray:
        path = self.pair.mask
        assert path is not None
        photo = read_photo(path)
        if photo.rgb.shape != self.clean.shape:
            raise DataError(f"{path} is {_size(photo.rgb)}, its photograph {_size(self.clean)}; make it the same size")
        if photo.alpha is not None and photo.alpha.min() < 255:
            raise DataError(f"{path} is transparent; a mask is grey, so flatten it, white where all counts")
        if np.ptp(photo.rgb, -1).max() > _COLOURED:
            raise DataError(f"{path} is coloured; a mask is grey, white where all counts")
        return cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY)


def _view(photograph: _Photograph, bucket: Bucket, view: int) -> View:
    experiment, pair = photograph.experiment, photograph.pair
    section = experiment.data
    height, width = photograph.clean.shape[:2]
    size = (width, height) if section.framing == "crop" else scaled_size((width, height), bucket)
    if width < bucket.width or height < bucket.height:
        if section.framing == "crop":
            raise DataError(
                f"{pair.clean} is {width}x{height}, smaller than data.resolution = {section.resolution}; "
                "lower that or remove it"
            )
        if not section.bucket_upscale:
            raise DataError(f"{pair.clean} is {width}x{height}, smaller than its bucket {bucket}; remove it")
    draw = numpy_generator("view", experiment.seed, pair.name, view)
    top, left = int(draw.integers(size[1] - bucket.height + 1)), int(draw.integers(size[0] - bucket.width + 1))
    mirrored = section.flip and draw.random() < 0.5

    def cut(image: np.ndarray, enlarge: int = cv2.INTER_LANCZOS4) -> np.ndarray:
        if size != (width, height):
            smaller = size[0] * size[1] < width * height
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else enlarge)
        part = image[top : top + bucket.height, left : left + bucket.width]
        return part[:, ::-1] if mirrored else part

    clean = cut(photograph.clean)
    mask = photograph.mask
    return View(
        clean,
        clean if pair.plain else cut(photograph.degraded(view)),
        None if mask is None else cut(mask, cv2.INTER_LINEAR),  # weights that do not overshoot
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
