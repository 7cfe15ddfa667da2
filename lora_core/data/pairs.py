"""Pairs of a clean photograph and its degraded twin, matched by file name, strictly both ways."""

from dataclasses import dataclass
from pathlib import Path

from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import file_digest, value_digest
from lora_core.images import list_photos
from lora_core.workspace import Workspace


@dataclass(frozen=True)
class Pair:
    """A clean photograph and its degraded twin.

    Attributes:
        name: file name without suffix, unique in its set.
        repeats: how often an epoch visits the pair.
    """

    name: str
    clean: Path
    degraded: Path
    repeats: int = 1


def training_pairs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """The pairs that the LoRA is trained on, in name order.

    Raises:
        DataError: no photographs, two of one name, a missing or a surplus twin.
    """
    clean, repeats = [], {}
    for folder in workspace.train_folders():
        for path in list_photos(folder.path):
            clean.append(path)
            repeats[path.stem] = folder.repeats
    return match(clean, workspace.train, workspace.degraded, repeats)


def test_pairs(workspace: Workspace, experiment: Experiment) -> list[Pair]:
    """The pairs that every checkpoint is scored on, in name order. Raises as `training_pairs`."""
    pairs = match(list_photos(workspace.test), workspace.test, workspace.test_degraded, {})
    return pairs[: experiment.data.test_limit]


# pytest collects functions of this name in modules that import it.
test_pairs.__test__ = False  # type: ignore[attr-defined]


def match(clean: list[Path], clean_folder: Path, degraded_folder: Path, repeats: dict[str, int]) -> list[Pair]:
    """Pairs by file name without suffix.

    Raises:
        DataError: as `training_pairs`.
    """
    if not clean:
        raise DataError(f"no photographs in {clean_folder}; put JPG, PNG, WebP, BMP or TIFF files there")
    originals, twins = _by_name(clean), _by_name(list_photos(degraded_folder))
    missing, surplus = sorted(originals.keys() - twins.keys()), sorted(twins.keys() - originals.keys())
    if missing:
        raise DataError(
            f"{originals[missing[0]]} has no degraded twin in {degraded_folder}{_others(missing)}; "
            "run: photo-enhancer degrade, or bring a file of the same name"
        )
    if surplus:
        raise DataError(
            f"{twins[surplus[0]]} has no clean photograph in {clean_folder}{_others(surplus)}; "
            "bring the clean file or remove the twin"
        )
    return [Pair(name, originals[name], twins[name], repeats.get(name, 1)) for name in sorted(originals)]


def pairs_digest(pairs: list[Pair]) -> str:
    """sha256 over names, repeats and the bytes of both halves."""
    return value_digest(
        [(pair.name, pair.repeats, file_digest(pair.clean), file_digest(pair.degraded)) for pair in pairs]
    )


def dataset_digest(workspace: Workspace, experiment: Experiment) -> str:
    """sha256 over everything that training and scoring read from the photographs."""
    return pairs_digest(training_pairs(workspace, experiment) + test_pairs(workspace, experiment))


def _by_name(paths: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"{path} and {found[path.stem]} have the same name; photographs are paired by it, so rename one"
            )
        found[path.stem] = path
    return found


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
