"""The folder layout. Every path in the project comes from here.

    experiment.yaml               what to do
    dataset/train/10_targets/     clean photographs; the leading number says how often an epoch repeats them
    dataset/reg/1_/               their degraded twins, same file names
    dataset/masks/                grey pictures, same names, that weight the loss (data.masks=folder)
    dataset/prior/1_name/         clean regularisation images, no twins (objective.prior_images)
    dataset/test/                 clean photographs held out of training, on which every checkpoint is scored
    dataset/test_degraded/        their degraded twins
    model/                        base models
    output/<experiment>/          study.log, ledger.jsonl, round-000/, report.html
    output/champion/0001-…/       the winner in both LoRA formats, its settings, its model card; and earlier winners
    cache/                        latents, embeddings, digests, by content; may be deleted at any time
    log/                          TensorBoard

Captions lie beside the photographs of `train` and `prior`: see `lora_core.data.captions`.

A kohya `reg` folder means prior preservation to kohya, where file names play no role. In a restoration experiment it
is the degraded half of the pairs, matched by name; `reg/1_` and `train/1_` are the seed project's spelling. What kohya
puts into `reg` goes into `prior`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.promotion.pointer import champion_folder

CHAMPIONS = "champion"
"""The folder under output/ that is no experiment's."""
TWINS_MANIFEST, TWINS_JOURNALS = "degradation.jsonl", ".degradation*.journal"
"""In a folder of degraded twins: what was made, and what is being made (`lora_core.degradation.manifest`)."""
_REPEATS = re.compile(r"^(\d+)_(.*)$")


@dataclass(frozen=True)
class RepeatFolder:
    """A folder `N_name` of photographs that an epoch visits N times."""

    path: Path
    repeats: int


@dataclass(frozen=True)
class RoundFolder:
    """One round of an experiment: `output/<experiment>/round-000/`."""

    root: Path

    @property
    def experiment(self) -> Path:
        """The round's experiment as it was run."""
        return self.root / "experiment.yaml"

    @property
    def training(self) -> Path:
        """State, log and job of the training process."""
        return self.root / "training"

    @property
    def states(self) -> Path:
        """The saved training states, a folder each, named by the images seen."""
        return self.training / "states"

    @property
    def validation_log(self) -> Path:
        """One JSON object a line: the base's validation loss, then the LoRA's at each validation."""
        return self.training / "validation.jsonl"

    @property
    def samples(self) -> Path:
        """Pictures for the eye, a folder a checkpoint."""
        return self.root / "samples"

    @property
    def train_log(self) -> Path:
        """One JSON object a line: images, epoch, loss, learning rate."""
        return self.training / "log.jsonl"

    @property
    def training_done(self) -> Path:
        """Written last: what the training made, with digests."""
        return self.training / "done.json"

    @property
    def checkpoints(self) -> Path:
        """`<experiment>-000005.safetensors` (kohya) and `.../diffusers/` folders."""
        return self.root / "checkpoints"

    @property
    def sweep_done(self) -> Path:
        """The cells of this round's grid, in order."""
        return self.root / "sweep.json"

    @property
    def table(self) -> Path:
        """Mean scores, a row a cell; `.csv` and `.xlsx` lie beside it."""
        return self.root / "scores.parquet"

    @property
    def photo_table(self) -> Path:
        """Scores, a row a cell and photograph."""
        return self.root / "scores_by_photo.parquet"

    @property
    def degradation_table(self) -> Path:
        """Gains of the winner and its best rivals by kind and strength of degradation."""
        return self.root / "scores_by_degradation.parquet"

    @property
    def diagnosis(self) -> Path:
        """What the round's curves say, in words."""
        return self.root / "diagnosis.json"

    @property
    def seconds(self) -> Path:
        """How long each stage took on this machine; no part of the result."""
        return self.root / "seconds.json"

    @property
    def result(self) -> Path:
        """The round's manifest, written last."""
        return self.root / "result.json"


@dataclass(frozen=True)
class StudyFolder:
    """All rounds of one experiment: `output/<experiment>/`."""

    root: Path

    @property
    def study_log(self) -> Path:
        """Optuna's journal."""
        return self.root / "study.log"

    @property
    def ledger(self) -> Path:
        """One JSON object a finished round."""
        return self.root / "ledger.jsonl"

    @property
    def report(self) -> Path:
        """The page for a person."""
        return self.root / "report.html"

    @property
    def cells(self) -> Path:
        """Restored pictures, a folder a cell, by content; rounds share the base model's."""
        return self.root / "cells"

    @property
    def scores(self) -> Path:
        """Scores of each cell, by content."""
        return self.root / "scores"

    @property
    def comparisons(self) -> Path:
        """Blind comparison pages, a folder each, and beside it what its tokens stand for."""
        return self.root / "comparisons"

    @property
    def judgements(self) -> Path:
        """What people preferred: a file a finished comparison, by content."""
        return self.root / "judgements"

    @property
    def decisions(self) -> Path:
        """What was decided about the study's candidates: a file a decision, by content."""
        return self.root / "decisions"

    @property
    def retraining(self) -> Path:
        """For a study that a retraining began: of which photographs, and how it ended."""
        return self.root / "retraining.json"

    def round(self, number: int) -> RoundFolder:
        """The folder of one round, counted from 0."""
        return RoundFolder(self.root / f"round-{number:03d}")

    def rounds(self) -> list[RoundFolder]:
        """The rounds that have a finished manifest, in order."""
        return [folder for path in sorted(self.root.glob("round-*")) if (folder := RoundFolder(path)).result.exists()]


@dataclass(frozen=True)
class Workspace:
    """A workspace folder; nothing is created by asking for a path."""

    root: Path

    @property
    def experiment(self) -> Path:
        """The experiment file."""
        return self.root / "experiment.yaml"

    @property
    def train(self) -> Path:
        """Parent of the clean `N_name` folders."""
        return self.root / "dataset" / "train"

    @property
    def targets(self) -> Path:
        """Where `init` puts clean photographs."""
        return self.train / "10_targets"

    @property
    def degraded(self) -> Path:
        """The degraded twins of the training photographs."""
        return self.root / "dataset" / "reg" / "1_"

    @property
    def masks(self) -> Path:
        """Grey pictures that weight the loss, named as the training photographs."""
        return self.root / "dataset" / "masks"

    @property
    def prior(self) -> Path:
        """Parent of the `N_name` folders of regularisation images."""
        return self.root / "dataset" / "prior"

    @property
    def test(self) -> Path:
        """Clean photographs held out of training."""
        return self.root / "dataset" / "test"

    @property
    def test_degraded(self) -> Path:
        """The degraded twins of the test photographs."""
        return self.root / "dataset" / "test_degraded"

    @property
    def models(self) -> Path:
        """Base models."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Parent of the experiments' folders."""
        return self.root / "output"

    @property
    def champions(self) -> Path:
        """All winners that there ever were, a folder each, and a pointer to the present one."""
        return self.output / CHAMPIONS

    @property
    def champion(self) -> Path:
        """The present winner's folder; `champions` itself where there is none yet.

        Raises:
            DataError: the pointer is damaged.
        """
        return champion_folder(self.champions)

    @property
    def cache(self) -> Path:
        """What can be computed again."""
        return self.root / "cache"

    @property
    def digests(self) -> Path:
        """Digests and sizes of photographs that have not changed since they were last read."""
        return self.cache / "digests.sqlite"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's log folder."""
        return self.root / "log"

    def study(self, experiment_name: str) -> StudyFolder:
        """The folder of an experiment."""
        return StudyFolder(self.output / experiment_name)

    def require_begun(self, experiment_name: str) -> None:
        """Refuses a study that was never begun.

        Raises:
            ConfigError: there is no study of that name.
        """
        if self.study(experiment_name).study_log.exists():
            return
        begun = sorted(path.parent.name for path in self.output.glob("*/study.log"))
        others = f"there are {', '.join(begun)}; name one with --set name=NAME, or" if begun else "there is none;"
        raise ConfigError(
            f"{self.study(experiment_name).root} holds no study to resume; {others} begin one without --resume"
        )

    def create(self) -> None:
        """Makes the folders; those that exist are left as they are.

        Raises:
            ResourceError: the place cannot be written.
        """
        try:
            for folder in (
                self.targets,
                self.degraded,
                self.test,
                self.test_degraded,
                self.models,
                self.output,
                self.tensorboard,
            ):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot make a workspace in {self.root}: {error.strerror or error}") from error

    def train_folders(self) -> list[RepeatFolder]:
        """The clean `N_name` folders, in name order.

        Raises:
            DataError: there is none, or a folder's name does not say its repeats.
        """
        if not self.train.is_dir():
            raise DataError(f"{self.train} does not exist; run: photo-enhancer init {self.root}")
        folders = _repeat_folders(self.train)
        if not folders:
            raise DataError(f"{self.train} has no folder of photographs; put them in {self.targets}")
        return folders

    def prior_folders(self) -> list[RepeatFolder]:
        """The `N_name` folders of regularisation images, in name order.

        Raises:
            DataError: there is none, or a folder's name does not say its repeats.
        """
        folders = _repeat_folders(self.prior) if self.prior.is_dir() else []
        if not folders:
            raise DataError(
                f"objective.prior_images needs regularisation images: put clean photographs into "
                f"{self.prior / '1_photo'}, or set it to 0"
            )
        return folders


def _repeat_folders(parent: Path) -> list[RepeatFolder]:
    folders = []
    for path in sorted(place for place in parent.iterdir() if place.is_dir() and not place.name.startswith(".")):
        match = _REPEATS.match(path.name)
        if not match or int(match[1]) < 1:
            raise DataError(f"{path}: name it N_name, where N says how often an epoch repeats it, e.g. 10_{path.name}")
        folders.append(RepeatFolder(path, int(match[1])))
    return folders
