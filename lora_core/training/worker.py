"""The training process of one round: `python -m lora_core.training.worker WORKSPACE EXPERIMENT ROUND ERROR_FILE`."""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lora_core.bases import base_digest
from lora_core.bases.base import in_evaluation
from lora_core.data.pairs import Pair, training_pairs
from lora_core.errors import BaseModelError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import read_json, write_json
from lora_core.formats.metadata import training_metadata
from lora_core.lora import save_lora
from lora_core.process import child_main, only_one
from lora_core.training.launch import read_pruner, run_digest
from lora_core.training.log import read_log, write_log
from lora_core.training.loop import Hooks
from lora_core.training.monitor import Monitor
from lora_core.training.reading import read_curve
from lora_core.training.setup import SetUp, open_accelerator, set_up
from lora_core.training.state import keep_states, newest_state, state_folder
from lora_core.training.trackers import Trackers
from lora_core.workspace import RoundFolder, Workspace

LOG = logging.getLogger(__name__)


@torch.no_grad()  # gradients only where they are asked for
def train(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Trains round `number`, from its last saved state where there is one, to its manifest."""
    folder = workspace.study(experiment.name).round(number)
    pairs = training_pairs(workspace, experiment)
    before = base_digest(experiment.base)
    digest = run_digest(experiment, pairs, before, workspace)
    accelerator = open_accelerator(experiment)
    made = set_up(workspace, experiment, pairs, accelerator, before, digest)
    run = made.run
    run.pruner = read_pruner(folder)
    if (state := newest_state(folder.states)) is not None:
        run.state.restore(state)
    if not run.state.validations and (loss := made.base_loss()) is not None:
        run.state.validations.append({"update": 0, "images": 0, "epoch": 0.0, "loss": loss})
    if not accelerator.is_main_process:
        run.fit(Hooks(*[lambda *_: None] * 4))
        return
    recorder = Recorder(made, folder, pairs, workspace.tensorboard / experiment.name / folder.root.name)
    stopped = recorder.fit()
    if base_digest(experiment.base) != before:
        raise BaseModelError(
            f"base.model: {experiment.base.model} changed while the round was trained; its result is not used"
        )
    write_json(folder.training_done, {"digest": digest, "base_digest": before, **recorder.result(stopped)})


@dataclass
class Recorder:
    """Writes what a run leaves on disk: log, validations, checkpoints, pictures, states; on the main process alone."""

    made: SetUp
    folder: RoundFolder
    pairs: list[Pair]
    tensorboard: Path

    def fit(self) -> str:
        """Trains to the end and returns why it ended."""
        run = self.made.run
        done = run.state.updates * run.plan.images_per_update
        settings = {"experiment": json.dumps(run.experiment.model_dump(mode="json"))}
        trackers = Trackers(run.experiment.monitoring.trackers, self.tensorboard, self.folder.training, settings, done)
        self.monitor = Monitor(
            self.folder.train_log,
            trackers,
            images_per_update=run.plan.images_per_update,
            images_per_epoch=run.plan.images_per_epoch,
            updates=run.plan.updates,
            done=run.state.updates,
            describe=self._files,
            bins=self.made.bins,
        )
        try:
            self._write_validations()
            return run.fit(Hooks(self.monitor.update, self._validated, self._checkpoint, self._save))
        finally:
            self.monitor.close()

    def result(self, stopped: str) -> dict[str, Any]:
        """The manifest of the run, but for what it was made from."""
        run = self.made.run
        reading = read_curve(run.state.validations, read_log(self.folder.train_log))
        for sentence in reading.words if reading else ():
            LOG.info(sentence)
        return {
            "images": run.state.updates * run.plan.images_per_update,
            "epochs": run.experiment.training.epochs,
            "stopped": stopped,
            "pruned_because": run.hopeless(),
            "photos": len(self.pairs),
            "batch": run.plan.batch,
            "shrunk": run.shrunk,
            "validations": run.state.validations,
            "reading": list(reading.words) if reading else [],
            "checkpoints": read_json(self.folder.training / "checkpoints.json"),
        }

    def _files(self, update: int) -> list[str]:
        plan = self.made.run.plan
        first = (update - 1) * plan.images_per_update
        positions = range(first, first + plan.images_per_update)
        return [self.pairs[plan.sample(position)[0]].clean.name for position in positions]

    def _validated(self, row: dict[str, Any]) -> None:
        self.monitor.flush()
        self.monitor.validated(row)
        self._write_validations()

    def _write_validations(self) -> None:
        write_log(self.folder.validation_log, self.made.run.state.validations)

    def _save(self) -> None:
        run, states = self.made.run, self.folder.states
        self.monitor.flush()
        images = run.state.updates * run.plan.images_per_update
        run.state.save(state_folder(states, images))
        best = run.best() if run.experiment.training.keep_best else None
        best_images = run.state.validations[best]["images"] if best is not None else None
        keep_states(states, images, best_images, run.experiment.training.keep_states)

    def _checkpoint(self, epoch: int) -> None:
        self.monitor.flush()
        run = self.made.run
        run.state.require_finite()
        name = f"{run.experiment.name}-{epoch:06d}"
        metadata = training_metadata(replace(self.made.facts, epoch=epoch, steps=run.state.updates))
        row = save_lora(run.adapter, self.folder.checkpoints / name, metadata)
        index = self.folder.training / "checkpoints.json"
        known = [other for other in (read_json(index) if index.exists() else []) if other["epoch"] < epoch]
        size = (self.folder.root / str(row["file"])).stat().st_size
        write_json(index, [*known, {"epoch": epoch, **row, "bytes": size}])
        self._samples(epoch)

    @torch.no_grad()
    def _samples(self, epoch: int) -> None:
        if (samples := self.made.samples) is None:
            return
        run, texts = self.made.run, self.made.texts
        prompts = run.experiment.monitoring.prompts
        with in_evaluation(run.adapter.base):
            text, empty = texts([run.experiment.data.prompt])(), texts([""])()
            drawn = texts(prompts)() if prompts else text[:0]
            pictures = samples.save(self.folder.samples / f"epoch-{epoch:06d}", text, empty, drawn)
        self.monitor.trackers.pictures(pictures, run.state.updates * run.plan.images_per_update)


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    root, experiment, number = arguments
    workspace, settings = Workspace(Path(root)), load_experiment(Path(experiment))
    folder = workspace.study(settings.name).round(int(number))
    rank_zero = os.environ.get("RANK", "0") == "0"
    lock = only_one(folder.training) if rank_zero else None
    try:
        train(workspace, settings, int(number))
    finally:
        if lock:
            lock.release()


if __name__ == "__main__":
    child_main(main)
