"""The plan of a run, counted in images seen: which view at which position, which checkpoint after which update."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

from lora_core.data.pairs import Pair
from lora_core.experiment import Experiment
from lora_core.randomness import numpy_generator, shuffled_index


@dataclass(frozen=True)
class Plan:
    """What a run does; a pure function of the experiment and the pairs' repeats.

    Attributes:
        items: pair index of each visit of an epoch, repeats included.
    """

    seed: int
    items: tuple[int, ...]
    views: int
    epochs: int
    checkpoint_every: int
    batch: int
    accumulation: int
    processes: int

    @classmethod
    def of(cls, experiment: Experiment, pairs: list[Pair]) -> "Plan":
        """The plan of an experiment on these pairs."""
        training = experiment.training
        return cls(
            seed=experiment.seed,
            items=tuple(index for index, pair in enumerate(pairs) for _ in range(pair.repeats)),
            views=experiment.data.views,
            epochs=training.epochs,
            checkpoint_every=training.checkpoint_every,
            batch=training.batch,
            accumulation=training.accumulation,
            processes=training.processes,
        )

    @property
    def images_per_update(self) -> int:
        """The effective batch."""
        return self.batch * self.accumulation * self.processes

    @property
    def updates(self) -> int:
        """Weight updates in all; the last one is filled from the next epoch rather than cut short."""
        return ceil(self.epochs * len(self.items) / self.images_per_update)

    @cached_property
    def checkpoints(self) -> dict[int, int]:
        """Update after which a checkpoint is saved, to its epoch; the last epoch always has one."""
        epochs = [*range(self.checkpoint_every, self.epochs, self.checkpoint_every), self.epochs]
        return {ceil(epoch * len(self.items) / self.images_per_update): epoch for epoch in epochs}

    def sample(self, position: int) -> tuple[int, int]:
        """The (pair, view) at a position of the endless stream."""
        item = shuffled_index(position, len(self.items), "training", self.seed)
        view = int(numpy_generator("which view", self.seed, position).integers(self.views))
        return self.items[item], view

    def positions(self, update: int, micro: int, process: int) -> range:
        """The positions of one batch; together the batches of an update cover its images once."""
        first = update * self.images_per_update + (micro * self.processes + process) * self.batch
        return range(first, first + self.batch)
