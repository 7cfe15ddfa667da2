"""The course of a run, counted in images seen: what comes after which update, and at what rate."""

from dataclasses import dataclass
from math import ceil, cos, pi

from lora_core.pretraining.recipe import Recipe, TrainingSection


@dataclass(frozen=True)
class Course:
    """A pure function of the recipe and the number of training images.

    Attributes:
        training: settings of this stage.
        photos: training images an epoch.
        epochs: passes in all, those before `first` included.
        first: images that the weights had seen before this run; the order of images goes on there.
    """

    training: TrainingSection
    photos: int
    epochs: int
    first: int = 0

    @property
    def images_per_update(self) -> int:
        """The effective batch."""
        return self.training.batch * self.training.accumulation * self.training.processes

    @property
    def updates(self) -> int:
        """Weight updates of this run; the last is filled from the next epoch rather than cut short."""
        return ceil((self.epochs * self.photos - self.first) / self.images_per_update)

    def images(self, update: int) -> int:
        """Images seen in all after `update` updates of this run."""
        return self.first + update * self.images_per_update

    def epoch(self, update: int) -> float:
        """Epochs done after `update` updates."""
        return self.images(update) / self.photos

    def ends_epoch(self, update: int, every: int) -> bool:
        """Whether an epoch with a number divisible by `every` ended with this update; the last update always does."""
        before, now = self.images(update - 1) // self.photos, self.images(update) // self.photos
        return now // every > before // every or update == self.updates

    def positions(self, micro: int, process: int) -> range:
        """Positions in the stream of images of micro-batch `micro` (counted over the run) on one process."""
        batch = self.training.batch
        start = self.first + (micro * self.training.processes + process) * batch
        return range(start, start + batch)

    def rate(self, update: int) -> float:
        """The factor of the peak learning rate for the update after `update` ones: warm-up, then the schedule."""
        done = update * self.images_per_update
        total = self.updates * self.images_per_update
        warm = min(1.0, (done + self.images_per_update) / self.training.warmup) if self.training.warmup else 1.0
        part = done / total
        if self.training.schedule == "cosine":
            return warm * 0.5 * (1 + cos(pi * part))
        if self.training.schedule == "linear":
            return warm * min(1.0, (1 - part) / 0.4)
        return warm


def autoencoder_course(recipe: Recipe, photos: int) -> Course:
    """The autoencoder's: its own rate, batch and epochs, half a cosine to zero."""
    own = recipe.autoencoder
    changes = {
        "epochs": own.epochs,
        "batch": own.batch,
        "accumulation": 1,
        "learning_rate": own.learning_rate,
        "optimizer": own.optimizer,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "ema": None,
        "checkpoint_every": own.epochs,
    }
    return Course(recipe.training.model_copy(update=changes), photos, own.epochs)


def unet_course(recipe: Recipe, photos: int, epochs: int, first: int = 0) -> Course:
    """The UNet's; `first` images were seen by the weights that it continues from."""
    return Course(recipe.training, photos, epochs, first)
