"""Cached views: the latents of crops of both halves of each pair.

A view is one crop, one mirroring and one degradation of a photograph; view 0 takes the degraded twin from its file,
the others are degraded anew by the same recipe, so that caching does not freeze the degradation. A cache is named
after everything that decides its content and is never looked up by position or file name alone.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lora_core.bases.base import Base, to_pixels
from lora_core.data.pairs import Pair, pairs_digest
from lora_core.degradation import degrade
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import file_digest, require_space, value_digest, whole_folder, write_json
from lora_core.images import read_rgb
from lora_core.randomness import numpy_generator
from lora_core.workspace import Workspace

_VERSION = 1
_ENCODE_BATCH = 8


@dataclass(frozen=True)
class ViewCache:
    """Memory-mapped latents.

    Attributes:
        clean: float32 (pairs * views, channels, height, width); view v of pair p lies at p * views + v.
        degraded: the same for the degraded half.
    """

    clean: np.ndarray
    degraded: np.ndarray
    views: int

    def rows(self, samples: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """The latents of (pair, view) samples, two float32 tensors (batch, channels, height, width)."""
        index = [pair * self.views + view for pair, view in samples]
        return torch.from_numpy(self.clean[index].copy()), torch.from_numpy(self.degraded[index].copy())


def view_cache(
    workspace: Workspace,
    experiment: Experiment,
    pairs: list[Pair],
    base: Base,
    base_digest: str,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ViewCache:
    """Opens the cache of these views, making it first where it is missing.

    Raises:
        DataError: a photograph is smaller than the training crop, or the halves of a pair differ in size.
        ResourceError: the disk is too small.
    """
    data = experiment.data
    if data.resolution % base.multiple:
        raise DataError(
            f"data.resolution: {data.resolution} is not a multiple of {base.multiple}, which this base needs"
        )
    key = value_digest(
        [_VERSION, pairs_digest(pairs), base_digest, experiment.seed, data.resolution, data.views, data.flip,
         experiment.degradation.model_dump(mode="json")]
    )  # fmt: skip
    folder = workspace.cache / f"latents-{key[:16]}"
    if not (folder / "done.json").exists():
        _build(folder, experiment, pairs, base, progress)
    clean, degraded = (np.load(folder / f"{half}.npy", mmap_mode="r") for half in ("clean", "degraded"))
    return ViewCache(clean, degraded, data.views)


def crop_views(pair: Pair, experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """The (clean, degraded) crops of every view of a pair, (resolution, resolution, 3) uint8 each."""
    data = experiment.data
    clean, twin = read_rgb(pair.clean), read_rgb(pair.degraded)
    if clean.shape != twin.shape:
        raise DataError(
            f"{pair.degraded} is {_size(twin)}, its clean photograph {_size(clean)}; make or bring it in the same size"
        )
    if min(clean.shape[:2]) < data.resolution:
        raise DataError(
            f"{pair.clean} is {_size(clean)}, smaller than data.resolution = {data.resolution}; lower that or remove it"
        )
    digest = file_digest(pair.clean)
    views = []
    for view in range(data.views):
        degraded = twin
        if view and experiment.degradation.preset != "own":
            degraded = degrade(clean, experiment.degradation.preset, digest, experiment.degradation.seed, view).rgb
        draw = numpy_generator("view", experiment.seed, pair.name, view)
        top, left = (int(draw.integers(side - data.resolution + 1)) for side in clean.shape[:2])
        mirrored = data.flip and draw.random() < 0.5
        window = (slice(top, top + data.resolution), slice(left, left + data.resolution))
        views.append(tuple(half[window][:, ::-1] if mirrored else half[window] for half in (clean, degraded)))
    return views  # type: ignore[return-value]


def _build(
    folder: Path, experiment: Experiment, pairs: list[Pair], base: Base, progress: Callable[[int, int], object]
) -> None:
    side = experiment.data.resolution // base.factor
    channels = base.unet.config.in_channels
    shape = (len(pairs) * experiment.data.views, channels, side, side)
    require_space(folder, 2 * 4 * int(np.prod(shape)), "the latent cache")
    with whole_folder(folder) as temporary:
        arrays = [
            np.lib.format.open_memmap(temporary / f"{half}.npy", "w+", np.float32, shape)
            for half in ("clean", "degraded")
        ]
        row = 0
        for number, views in enumerate(_crops_ahead(pairs, experiment), 1):
            for first in range(0, len(views), _ENCODE_BATCH):
                chunk = views[first : first + _ENCODE_BATCH]
                pixels = to_pixels(np.stack([half for view in chunk for half in view]))
                latents = base.encode(pixels).cpu().numpy()
                for half, array in enumerate(arrays):
                    array[row : row + len(chunk)] = latents[half::2]
                row += len(chunk)
            progress(number, len(pairs))
        if not all(np.isfinite(array).all() for array in arrays):
            raise DataError("the autoencoder gave latents that are not finite; the base model is damaged")
        for array in arrays:
            array.flush()
        del arrays, array
        write_json(temporary / "done.json", {"pairs": [pair.name for pair in pairs], "views": experiment.data.views})


def _crops_ahead(pairs: list[Pair], experiment: Experiment) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Reads and degrades a few pairs ahead of the encoder, in order."""
    ahead = 4
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(crop_views, pair, experiment) for pair in pairs[:ahead]]
        for number in range(len(pairs)):
            yield jobs.pop(0).result()
            if number + ahead < len(pairs):
                jobs.append(pool.submit(crop_views, pairs[number + ahead], experiment))


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
