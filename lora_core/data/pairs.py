"""Pairs of a clean photograph and its degraded twin, matched by file name, strictly both ways.

Masks are matched in the same way, captions lie beside the clean photographs. Imports no torch.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from lora_core.data.captions import read_captions
from lora_core.data.pair import Pair, pairs_digest
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.images import photo_names, stem
from lora_core.sections.data import DataSection
from lora_core.workspace import RepeatFolder, Workspace

__all__ = [
    "Pair", "dataset_digest", "held_out_photographs", "pairs_digest", "parts_digest", "prior_pairs",
    "prior_photographs", "test_pairs", "training_pairs", "training_photographs",
]  # fmt: skip


def training_pairs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """The pairs that the LoRA is trained on, in name order, with captions and masks.

    Raises:
        DataError: no photographs, two of one name, a missing or a surplus twin or mask, a bad or missing caption.
    """
    photographs, _ = training_photographs(workspace, experiment)
    return _with_twins(photographs, workspace.train, workspace.degraded)


def training_photographs(workspace: Workspace, experiment: Experiment) -> tuple[list[Pair], int]:
    """As `training_pairs`, without twins, which need not be there yet: the degraded half is the clean photograph.

    Returns:
        The photographs in name order, and how many of them have the prompt for want of a caption.
    """
    photographs, uncaptioned = _photographs(workspace.train_folders(), workspace.train, experiment.data)
    if experiment.data.masks == "alpha":
        return [_changed(one, mask=one.clean_file) for one in photographs], uncaptioned
    if experiment.data.masks == "folder":
        return _with_masks(photographs, workspace.masks), uncaptioned
    return photographs, uncaptioned


def prior_photographs(workspace: Workspace, experiment: Experiment) -> tuple[list[Pair], int]:
    """The regularisation images as `training_photographs` has the others; none where objective.prior_images is 0.

    Raises:
        DataError: they are asked for and there are none, two have one name, a bad or missing caption.
    """
    if not experiment.objective.prior_images:
        return [], 0
    return _photographs(workspace.prior_folders(), workspace.prior, experiment.data)


def prior_pairs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """The regularisation images, in name order; the degraded half is the clean one. Raises as `prior_photographs`."""
    return prior_photographs(workspace, experiment)[0]


def test_pairs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """The pairs that every checkpoint is scored on, in name order; the prompt holds for all. As `training_pairs`."""
    pairs = _with_twins(_held_out(workspace), workspace.test, workspace.test_degraded)
    return pairs[: experiment.data.test_limit]


def held_out_photographs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """As `test_pairs`, without twins, which need not be there yet: the degraded half is the clean photograph."""
    return _held_out(workspace)[: experiment.data.test_limit]


def _held_out(workspace: Workspace) -> list[Pair]:
    return _unique(_in_folder(RepeatFolder(workspace.test, 1), {}), workspace.test)


# pytest collects functions of this name in modules that import it.
test_pairs.__test__ = False  # type: ignore[attr-defined]


def dataset_digest(workspace: Workspace, experiment: Experiment) -> str:
    """sha256 over everything that training and scoring read from the photographs."""
    return parts_digest(workspace, experiment, training_pairs(workspace, experiment), test_pairs(workspace, experiment))


def parts_digest(workspace: Workspace, experiment: Experiment, train: list[Pair], test: list[Pair]) -> str:
    """As `dataset_digest`, of pairs that are listed already."""
    parts = train, prior_pairs(workspace, experiment), test
    return value_digest([pairs_digest(part, workspace) for part in parts])


def _photographs(folders: Sequence[RepeatFolder], parent: Path, section: DataSection) -> tuple[list[Pair], int]:
    """The photographs of several `N_name` folders with their captions, and how many have the prompt for one."""
    pairs: list[Pair] = []
    for folder in folders:
        names = photo_names(folder.path)
        captions = read_captions(folder.path, names) if section.captions == "files" else {}
        pairs += _in_folder(folder, captions, names)
    pairs = _unique(pairs, parent)
    missing = [pair for pair in pairs if not pair.caption] if section.captions == "files" else []
    if missing and section.missing_caption == "error":
        raise DataError(
            f"{missing[0].clean_file} has no caption{_others(missing)}; write {missing[0].name}.txt beside it, or set "
            "data.missing_caption=prompt to use data.prompt"
        )
    for number, pair in enumerate(pairs if missing else []):
        if not pair.caption:
            pairs[number] = _changed(pair, caption=section.prompt)
    return pairs, len(missing)


def _in_folder(folder: RepeatFolder, captions: dict[str, str], names: Sequence[str] | None = None) -> list[Pair]:
    parent = os.path.join(folder.path, "")
    return [
        Pair(stem(name), path := parent + name, path, folder.repeats, captions.get(name, ""))
        for name in (photo_names(folder.path) if names is None else names)
    ]


def _unique(pairs: list[Pair], folder: Path) -> list[Pair]:
    """In name order."""
    if not pairs:
        raise DataError(f"no photographs in {folder}; put JPG, PNG, WebP, BMP or TIFF files there")
    pairs.sort(key=lambda pair: pair.name)
    for first, second in pairwise(pairs):
        if first.name == second.name:
            _refuse_namesakes(second.clean_file, first.clean_file)
    return pairs


def _with_twins(photographs: list[Pair], clean_folder: Path, degraded_folder: Path) -> list[Pair]:
    twins = _by_stem(degraded_folder)
    missing, surplus = _differences(photographs, twins)
    if missing:
        raise DataError(
            f"{missing[0].clean_file} has no degraded twin in {degraded_folder}{_others(missing)}; "
            "run: photo-enhancer degrade, or bring a file of the same name"
        )
    if surplus:
        raise DataError(
            f"{degraded_folder / twins[surplus[0]]} has no clean photograph in {clean_folder}{_others(surplus)}; "
            "bring the clean file or remove the twin"
        )
    parent = os.path.join(degraded_folder, "")
    return [_changed(one, degraded=parent + twins[one.name]) for one in photographs]


def _with_masks(photographs: list[Pair], folder: Path) -> list[Pair]:
    if not folder.is_dir():
        raise DataError(f"data.masks=folder, and {folder} does not exist; put a grey picture of each photograph there")
    masks = _by_stem(folder)
    missing, surplus = _differences(photographs, masks)
    if missing:
        raise DataError(
            f"{missing[0].clean_file} has no mask in {folder}{_others(missing)}; "
            "add a grey picture of the same name and size, white where all counts"
        )
    if surplus:
        raise DataError(
            f"{folder / masks[surplus[0]]} is the mask of no photograph{_others(surplus)}; rename or remove it"
        )
    return [_changed(one, mask=os.path.join(folder, masks[one.name])) for one in photographs]


def _by_stem(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in photo_names(folder):
        if (other := found.setdefault(stem(name), name)) != name:
            _refuse_namesakes(folder / name, folder / other)
    return found


def _refuse_namesakes(one: Path | str, other: Path | str) -> None:
    raise DataError(f"{one} and {other} have the same name; photographs are paired by it, so rename one")


def _differences(photographs: list[Pair], files: dict[str, str]) -> tuple[list[Pair], list[str]]:
    """Photographs without a file, and stems of files without a photograph."""
    names = {one.name for one in photographs}
    return [one for one in photographs if one.name not in files], sorted(files.keys() - names)


def _changed(pair: Pair, *, degraded: str = "", caption: str | None = None, mask: str | None = None) -> Pair:
    return Pair(
        pair.name,
        pair.clean_file,
        degraded or pair.degraded_file,
        pair.repeats,
        pair.caption if caption is None else caption,
        pair.mask_file if mask is None else mask,
    )


def _others(some: Sequence[object]) -> str:
    return f" (and {len(some) - 1} more)" if len(some) > 1 else ""
