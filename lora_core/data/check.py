"""What the photographs are and whether they can be trained on, told before the first costly second. Imports no torch.

Nothing is decoded: captions are read, sizes come from the headers, and both are remembered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lora_core.bases.files import locate_base
from lora_core.data.buckets import BucketRow, Shapes, assign, bucket_lines, bucket_report
from lora_core.data.captions import caption_files
from lora_core.data.digests import DigestStore
from lora_core.data.pair import Pair
from lora_core.data.pairs import prior_photographs, training_photographs
from lora_core.errors import DataError
from lora_core.experiment import BaseModelSection, Experiment
from lora_core.workspace import Workspace

_MULTIPLE = 64  # of Stable Diffusion, whose single files hold no configuration


@dataclass(frozen=True)
class DataReport:
    """The photographs of a run.

    Attributes:
        photos: training photographs.
        visits: of an epoch, repeats included.
        captions: different captions; 0 where the prompt holds for all.
        uncaptioned: photographs, regularisation images included, that have the prompt for want of a caption.
        unread: files with captions that are not read, for data.captions=prompt.
        masks: photographs with a mask.
        prior: regularisation images.
        buckets: what each bucket holds; with data.framing=crop the one square.
        framing: as data.framing says.
    """

    photos: int
    visits: int
    captions: int
    uncaptioned: int
    unread: int
    masks: int
    prior: int
    buckets: tuple[BucketRow, ...]
    framing: str

    def lines(self) -> list[str]:
        """The report for a person, a line a fact and a bucket."""
        lines = [f"{self.photos:,} training photographs, {self.visits:,} visits an epoch"]
        if self.captions:
            lines.append(f"{self.captions:,} different captions")
        if self.uncaptioned:
            lines.append(f"{self.uncaptioned:,} photographs have no caption; the prompt stands in for it")
        if self.unread:
            lines.append(f"{self.unread:,} files with captions are not read: data.captions is 'prompt'")
        if self.masks:
            lines.append(f"{self.masks:,} masks")
        if self.prior:
            lines.append(f"{self.prior:,} regularisation images")
        return lines + (bucket_lines(self.buckets) if self.framing == "bucket" else [])


def check_data(workspace: Workspace, experiment: Experiment, base_multiple: int | None = None) -> DataReport:
    """Checks captions, masks, sizes, buckets and regularisation images; degraded twins need not be there yet.

    A file whose header cannot be read is passed over; it is named where the photographs are decoded.

    Args:
        workspace: the workspace.
        experiment: what will run.
        base_multiple: pixels that a side must be a multiple of for the base; by default what its files say.

    Raises:
        DataError: something cannot be trained on, and the way out.
    """
    multiple = base_multiple or _multiple(experiment.base)
    store = DigestStore(workspace)
    photographs, uncaptioned = training_photographs(workspace, experiment)
    prior, prior_uncaptioned = prior_photographs(workspace, experiment)
    photographs, sizes, shapes = _framed(photographs, experiment, multiple, store)
    _framed(prior, experiment, multiple, store)
    if experiment.data.masks == "alpha":
        _check_alpha(photographs)
    elif experiment.data.masks == "folder":
        _check_sizes(photographs, sizes, [pair.mask_file or "" for pair in photographs], "photograph", store)
    read = experiment.data.captions == "files"
    folders = [folder.path for folder in workspace.train_folders()]
    repeats = [pair.repeats for pair in photographs]
    training = experiment.training
    batch = training.batch * training.accumulation * training.processes
    return DataReport(
        photos=len(photographs),
        visits=sum(repeats),
        captions=len({pair.caption for pair in [*photographs, *prior]}) if read else 0,
        uncaptioned=uncaptioned + prior_uncaptioned,
        unread=0 if read else sum(len(caption_files(folder)) for folder in folders),
        masks=sum(pair.mask_file is not None for pair in photographs),
        prior=len(prior),
        buckets=tuple(bucket_report(shapes, sizes, repeats, experiment.data, training.epochs, batch)),
        framing=experiment.data.framing,
    )


def check_twins(pairs: Sequence[Pair], workspace: Workspace) -> None:
    """Checks that the halves of each pair have one size, by their headers.

    Raises:
        DataError: they differ, or a file is no image.
    """
    store = DigestStore(workspace)
    sizes = store.sizes([pair.clean_file for pair in pairs])
    _check_sizes(pairs, sizes, [pair.degraded_file for pair in pairs], "clean photograph", store)


def _framed(
    pairs: list[Pair], experiment: Experiment, multiple: int, store: DigestStore
) -> tuple[list[Pair], np.ndarray, Shapes]:
    """The readable photographs, their sizes and shapes."""
    sizes = store.sizes([pair.clean_file for pair in pairs], strict=False)
    readable = np.flatnonzero(sizes.all(1))
    if len(readable) < len(pairs):
        pairs, sizes = [pairs[number] for number in readable], sizes[readable]
    return pairs, sizes, assign(sizes, experiment.data, multiple, [pair.clean_file for pair in pairs])


def _check_sizes(pairs: Sequence[Pair], sizes: np.ndarray, files: list[str], what: str, store: DigestStore) -> None:
    others = store.sizes(files)
    if (different := (sizes != others).any(1)).any():
        first = int(np.argmax(different))
        more = f" (and {int(different.sum()) - 1} more)" if different.sum() > 1 else ""
        raise DataError(
            f"{files[first]} is {_size(others[first])}, its {what} {pairs[first].clean_file} {_size(sizes[first])}"
            f"{more}; make or bring it in the same size"
        )


def _check_alpha(pairs: Sequence[Pair]) -> None:
    without = []
    for pair in pairs:
        with Image.open(pair.clean_file) as image:
            if not image.has_transparency_data:
                without.append(pair)
    if without:
        more = f" (and {len(without) - 1} more)" if len(without) > 1 else ""
        raise DataError(
            f"{without[0].clean_file} has no alpha channel{more}, which data.masks=alpha reads; add one, or use "
            "data.masks=folder"
        )


def _multiple(section: BaseModelSection) -> int:
    """Pixels that a side must be a multiple of, as `Base.multiple`, by the configuration of a base that is a folder."""
    folder = locate_base(section)
    if not folder.is_dir():
        return _MULTIPLE
    unet, vae = (len(_config(folder / part)["block_out_channels"]) for part in ("unet", "vae"))
    return 2 ** (vae - 1) * 2 ** (unet - 1)


def _config(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


def _size(size: np.ndarray) -> str:
    return f"{size[0]}x{size[1]}"
