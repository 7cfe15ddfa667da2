"""The plan of a run, counted in images seen: which view at which position, which checkpoint after which update.

Every aspect bucket has an endless stream of its own, reshuffled whenever it is through, and every update takes its
images from one bucket: shapes in a batch are equal, no batch is cut short and no image left out. The updates of the
buckets are spread evenly over the run. A batch's split into micro-batches and processes changes nothing of this.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np

from lora_core.data.pairs import Pair
from lora_core.experiment import Experiment
from lora_core.randomness import numpy_generator, shuffled_index


@dataclass(frozen=True)
class Plan:
    """What a run does; a pure function of the experiment and of each pair's repeats and bucket.

    Attributes:
        streams: of each bucket, the pair index of each visit of an epoch, repeats included.
        views: views a photograph, or None for a new one at every visit.
        batch: images a step and process.
        accumulation: steps a weight update.
    """

    seed: int
    streams: tuple[np.ndarray, ...]
    views: int | None
    epochs: int
    checkpoint_every: int
    batch: int
    accumulation: int
    processes: int

    @classmethod
    def of(cls, experiment: Experiment, pairs: list[Pair], buckets: np.ndarray | None = None) -> "Plan":
        """The plan of an experiment on these pairs; `buckets` is each pair's, one for all where left out."""
        training = experiment.training
        repeats = np.array([pair.repeats for pair in pairs])
        places = np.zeros(len(pairs), dtype=int) if buckets is None else np.asarray(buckets)
        streams = (np.repeat(found := np.flatnonzero(places == one), repeats[found]) for one in np.unique(places))
        return cls(
            seed=experiment.seed,
            streams=tuple(stream.astype(np.uint32) for stream in streams),
            views=experiment.data.views if experiment.data.cache else None,
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
    def images_per_epoch(self) -> int:
        """Visits of an epoch, repeats included."""
        return sum(len(stream) for stream in self.streams)

    @cached_property
    def updates(self) -> int:
        """Weight updates in all; the last one of a bucket is filled from its next epoch rather than cut short."""
        return len(self._turns)

    @cached_property
    def checkpoints(self) -> dict[int, int]:
        """Update after which a checkpoint is saved, to its epoch; the last epoch always has one."""
        epochs = [*range(self.checkpoint_every, self.epochs, self.checkpoint_every), self.epochs]
        return {self.update_of(epoch): epoch for epoch in epochs}

    def update_of(self, epoch: int) -> int:
        """Updates that are made when an epoch is over."""
        return ceil(epoch * self.updates / self.epochs)

    def sample(self, position: int) -> tuple[int, int]:
        """The (pair, view) at a position of the run."""
        update, offset = divmod(position, self.images_per_update)
        bucket, turn = self._turns[update]
        stream = self.streams[bucket]
        place = turn * self.images_per_update + offset
        item = shuffled_index(place, len(stream), "training", self.seed, *([int(bucket)] if bucket else []))
        if self.views is None:
            return int(stream[item]), position + 1
        return int(stream[item]), int(numpy_generator("which view", self.seed, position).integers(self.views))

    def positions(self, update: int, micro: int, process: int) -> range:
        """The positions of one batch; together the batches of an update cover its images once."""
        first = update * self.images_per_update + (micro * self.processes + process) * self.batch
        return range(first, first + self.batch)

    def split(self, batch: int) -> "Plan":
        """The same run in batches of another size.

        Raises:
            ValueError: the effective batch is no multiple of it.
        """
        rest = self.images_per_update // self.processes
        if rest % batch:
            raise ValueError(f"{rest} images a process and update are no multiple of a batch of {batch}")
        return replace(self, batch=batch, accumulation=rest // batch)

    @cached_property
    def _turns(self) -> np.ndarray:
        """(bucket, its how-manieth update) of every update, int64 (updates, 2): each bucket's lie evenly apart."""
        counts = [ceil(self.epochs * len(stream) / self.images_per_update) for stream in self.streams]
        buckets = np.repeat(np.arange(len(counts)), counts)
        turns = np.concatenate([np.arange(count) for count in counts])
        return np.stack([buckets, turns], axis=1)[np.argsort((turns + 0.5) / np.array(counts)[buckets], kind="stable")]
