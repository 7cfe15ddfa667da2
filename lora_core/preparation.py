"""From a folder of photographs to a workspace that a round can start in; every check before the first costly second."""

import logging
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_core.company import Company
from lora_core.data.check import DataReport, check_data, check_twins
from lora_core.data.digests import DigestStore
from lora_core.data.pairs import parts_digest, test_pairs, training_pairs
from lora_core.degradation import degrade_folder, unmade
from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.files import file_digest, require_space, value_digest, write_text, write_with
from lora_core.images import Unreadable, check_photos, list_photos
from lora_core.settings import to_yaml
from lora_core.share import WHOLE, Share
from lora_core.space import check_space
from lora_core.training.preflight import check_training
from lora_core.workspace import Workspace

__all__ = [
    "Created", "Prepared", "check_workspace", "create_workspace", "degrade_workspace",
    "held_out_photos", "match_pairs", "photo_count", "photos_digest", "prepare", "refuse_unreadable",
    "training_photos", "unmade_twins",
]  # fmt: skip

logger = logging.getLogger(__name__)
Progress = Callable[[int], object]
_PATIENCE = 86_400.0  # seconds in which another run may make the twins that this one needs too

_HEADER = """\
# The experiment of this workspace. It began as the preset '{preset}'; every setting stands below with its value.
# A misspelt key is an error that names the right one. One run can be changed without touching this file:
#     photo-enhancer tune {place} --set training.epochs=8 --set "sweep.strengths=[0.1, 0.2]"
"""


@dataclass(frozen=True)
class Created:
    """What `create_workspace` made: how many photographs lie in each part, and which files it left behind."""

    workspace: Workspace
    train: int
    test: int
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class Prepared:
    """A workspace in which a round can start.

    Attributes:
        train: training pairs.
        test: test pairs.
        twins_made: degraded twins written by this call; the others were there already.
        dataset_digest: sha256 of all pairs and of how they are used.
        base_digest: sha256 of the base model.
        space: estimated bytes that the rounds still need.
        data: captions, masks, buckets and regularisation images, in numbers; `data.lines()` is for a person.
    """

    train: int
    test: int
    twins_made: int
    dataset_digest: str
    base_digest: str
    space: int
    data: DataReport


def create_workspace(
    root: Path,
    preset: str,
    photos: Path | None = None,
    test: Path | None = None,
    hold_out: float = 0.1,
    assignments: Sequence[str] = (),
) -> Created:
    """Makes the folders, copies photographs into them, and writes `experiment.yaml` last.

    The sources are only read. Without `test`, a share of `photos` is held out: those with the smallest digests, so
    that the choice depends on nothing but the photographs. Files that cannot be read are left out and returned.

    Args:
        root: the workspace.
        preset: the shipped experiment to start from.
        photos: folder of clean photographs.
        test: folder of clean photographs to score on.
        hold_out: share of `photos` for the test, in [0, 1).
        assignments: `section.key=value` texts on top of the preset.

    Raises:
        ConfigError: an experiment is there already, or the new one is not valid.
        DataError: a source is no folder, has no readable photograph, or differs from what the workspace holds.
        ResourceError: the place cannot be written, or its disk is too small.
    """
    experiment = apply_overrides(load_preset(preset), list(assignments))
    workspace = Workspace(root)
    if workspace.experiment.exists():
        raise ConfigError(f"{workspace.experiment} exists; edit it, or name another folder")
    if not 0 <= hold_out < 1:
        raise ConfigError(f"--hold-out {hold_out}: give a share from 0 to below 1, for example 0.1")
    training, bad_training = check_photos(_require_photos(photos)) if photos else ([], [])
    testing, bad_testing = check_photos(_require_photos(test)) if test else ([], [])
    if photos and not test:
        training, testing = _hold_out(training, hold_out)
    require_space(root, sum(path.stat().st_size for path in training + testing), "copying the photographs")
    workspace.create()
    for folder, paths in ((workspace.targets, training), (workspace.test, testing)):
        for path in paths:
            _copy_once(path, folder / path.name)
    header = _HEADER.format(preset=preset, place=shlex.quote(str(root)))
    write_text(workspace.experiment, f"{header}\n{to_yaml(experiment)}")
    return Created(workspace, len(training), len(testing), bad_training + bad_testing)


def prepare(workspace: Workspace, experiment: Experiment, rounds: int = 1) -> Prepared:
    """Checks everything that a run will need and makes the degraded twins that are missing.

    Args:
        workspace: the workspace.
        experiment: what will run.
        rounds: rounds that the run may take, for the estimate of space.

    Raises:
        DataError: photographs that are missing, unreadable, unpaired, or in both training and test.
        BaseModelError: the base model is missing or is no base model.
        ResourceError: the disk is too small.
    """
    space = check_workspace(workspace, experiment, rounds)
    return match_pairs(workspace, experiment, degrade_workspace(workspace, experiment), space)


def check_workspace(workspace: Workspace, experiment: Experiment, rounds: int = 1) -> int:
    """Checks base model, photographs and disk without decoding anything; what the photographs are goes to the log.

    Returns:
        Estimated bytes that the rounds need.

    Raises:
        BaseModelError, ConfigError, DataError, ResourceError: as `prepare`; weights of a metric are not here.
    """
    from lora_core.bases import check_base
    from lora_core.metrics.registry import require_metrics
    from lora_core.perceptual.choice import require_perceptual

    check_base(experiment.base)
    check_training(experiment)
    require_perceptual(experiment.scoring)
    require_metrics(experiment.scoring)
    training, testing = training_photos(workspace), held_out_photos(workspace)
    prior = workspace.prior_folders() if experiment.objective.prior_images else []
    _refuse_leak(training + [photo for folder in prior for photo in list_photos(folder.path)], testing)
    for line in check_data(workspace, experiment).lines():
        logger.info("%s", line)
    return check_space(workspace, experiment, rounds)


def training_photos(workspace: Workspace) -> list[Path]:
    """The clean training photographs of all `N_name` folders.

    Raises:
        DataError: fewer than two.
    """
    photos = [photo for folder in workspace.train_folders() for photo in list_photos(folder.path)]
    return _require_count(photos, 2, workspace.targets, "a LoRA learns from the difference of many")


def held_out_photos(workspace: Workspace) -> list[Path]:
    """The clean test photographs.

    Raises:
        DataError: none.
    """
    photos = list_photos(workspace.test) if workspace.test.is_dir() else []
    return _require_count(photos, 1, workspace.test, "every checkpoint is scored on them")


def photo_count(workspace: Workspace) -> int:
    """How many clean photographs the workspace holds. Raises as `training_photos` and `held_out_photos`."""
    return len(training_photos(workspace)) + len(held_out_photos(workspace))


def refuse_unreadable(unreadable: list[Unreadable]) -> None:
    """Names what cannot be read, the first three in full.

    Raises:
        DataError: there is one.
    """
    if unreadable:
        named = "; ".join(f"{bad.path}: {bad.reason}" for bad in unreadable[:3])
        more = f"; and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        raise DataError(f"{len(unreadable)} photograph(s) cannot be read; replace or remove: {named}{more}")


def degrade_workspace(
    workspace: Workspace, experiment: Experiment, progress: Progress = lambda _: None, share: Share = WHOLE
) -> int:
    """Makes the degraded twins of training and test photographs that are missing.

    Where the user brings them (preset `own`), nothing is made; every photograph is decoded instead, once for all runs.

    Args:
        workspace: the workspace.
        experiment: its degradation section says how.
        progress: called with the number of photographs done so far.
        share: of the photographs; the whole, afterwards, keeps what the shares made and refuses what is unreadable.

    Returns:
        How many were made; the others were there already.

    Raises:
        DataError: photographs that are missing or cannot be read; the twins of all others are made first.
    """
    with Company(workspace.cache / "degradation", share).at_work(_PATIENCE):
        return _degrade(workspace, experiment, progress, share)


def unmade_twins(workspace: Workspace, experiment: Experiment) -> int:
    """How many photographs `degrade_workspace` would look at with an effort; reads none of them."""
    training, testing = training_photos(workspace), held_out_photos(workspace)
    if experiment.degradation.preset == "own":
        return 0 if workspace.digests.exists() else len(training) + len(testing)
    return unmade(training, workspace.degraded, experiment.degradation) + unmade(
        testing, workspace.test_degraded, experiment.degradation
    )


def photos_digest(workspace: Workspace) -> str:
    """sha256 over the names of the photographs: whether two machines see one workspace."""
    return value_digest([photo.name for photo in training_photos(workspace) + held_out_photos(workspace)])


def _degrade(workspace: Workspace, experiment: Experiment, progress: Progress, share: Share) -> int:
    training, testing = training_photos(workspace), held_out_photos(workspace)
    if experiment.degradation.preset == "own":
        files = [str(photo) for photo in share.of(training + testing)]
        unreadable = DigestStore(workspace).unreadable(files, progress)
        if share.whole:
            refuse_unreadable(unreadable)
        return 0
    results = [
        degrade_folder(
            photos,
            twins,
            experiment.degradation,
            progress=lambda done, _, before=before: progress(before + done),  # type: ignore[misc]
            digest=_remembered(workspace, share.of(photos), twins),
            share=share,
        )
        for photos, twins, before in (
            (training, workspace.degraded, 0),
            (testing, workspace.test_degraded, len(share.of(training))),
        )
    ]
    if share.whole:
        refuse_unreadable([bad for result in results for bad in result.unreadable])
    return sum(len(result.made) for result in results)


def _remembered(workspace: Workspace, photos: list[Path], twins: Path) -> Callable[[Path], str]:
    """Digests of photographs and of their twins that are there, from the store; of any other file, from its bytes."""
    names = {photo.name for photo in photos}
    there = [twin for twin in list_photos(twins) if twin.name in names] if twins.is_dir() else []
    files = [str(path) for path in photos + there]
    try:
        known = dict(zip(files, DigestStore(workspace).digests(files), strict=True))
    except DataError:  # one cannot be read, which is said where it is degraded
        known = {}
    return lambda path: known.get(str(path)) or file_digest(path)


def match_pairs(workspace: Workspace, experiment: Experiment, twins_made: int = 0, space: int = 0) -> Prepared:
    """Matches the pairs, strictly both ways, and digests what a round depends on.

    Raises:
        DataError: as `training_pairs`, and where the halves of a pair differ in size.
    """
    from lora_core.bases import base_digest

    train, test = training_pairs(workspace, experiment), test_pairs(workspace, experiment)
    check_twins([*train, *test], workspace)
    report = check_data(workspace, experiment)
    digest = parts_digest(workspace, experiment, train, test)
    return Prepared(len(train), len(test), twins_made, digest, base_digest(experiment.base), space, report)


def _require_photos(folder: Path) -> list[Path]:
    return _require_count(list_photos(folder), 1, folder, "name a folder that holds them directly")


def _require_count(photos: list[Path], least: int, folder: Path, reason: str) -> list[Path]:
    if len(photos) < least:
        held = "no photograph" if not photos else f"only {len(photos)} photograph"
        raise DataError(f"{folder} holds {held} (JPEG, PNG, WebP, BMP, TIFF); at least {least} needed: {reason}")
    return photos


def _refuse_leak(training: list[Path], testing: list[Path]) -> None:
    """No photograph may be in both parts, under whatever name; only files of equal size are read."""
    by_size: dict[int, list[Path]] = {}
    for path in training:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for path in testing:
        for other in by_size.get(path.stat().st_size, []):
            if file_digest(path) == file_digest(other):
                raise DataError(f"{path} is the same photograph as {other}; a score needs some that training never saw")


def _hold_out(photos: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Splits by content, so that copies of one photograph stay on one side; at least one is held out if share > 0."""
    digests = {path: file_digest(path) for path in photos}
    distinct = sorted(set(digests.values()))
    if share and len(distinct) < 3:
        raise DataError(
            f"{len(distinct)} different photograph(s): at least 3 are needed, two to train on and one to score; "
            "add photographs, or name others with --test"
        )
    held = set(distinct[: max(1, round(share * len(distinct)))] if share else ())
    return [path for path in photos if digests[path] not in held], [path for path in photos if digests[path] in held]


def _copy_once(source: Path, target: Path) -> None:
    if not target.exists():
        write_with(target, lambda name: shutil.copyfile(source, name))
    elif file_digest(source) != file_digest(target):
        raise DataError(f"{target} exists and differs from {source}; remove or rename one of them")
