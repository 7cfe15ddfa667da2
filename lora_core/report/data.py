"""What the report is made from: the files of the finished rounds, read once."""

import json
import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import read_json
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """A round's training log without rows that are not finite.

    Attributes:
        images: views seen, rising.
        loss: training loss at each of them.
        learning_rate: learning rate at each of them.
    """

    images: list[int]
    loss: list[float]
    learning_rate: list[float]


@dataclass(frozen=True)
class RoundData:
    """A finished round.

    Attributes:
        experiment: as this round ran it.
        result: its manifest, `result.json`.
        training: `training/done.json`.
    """

    number: int
    folder: RoundFolder
    experiment: Experiment
    result: dict[str, Any]
    training: dict[str, Any]
    curve: Curve

    @property
    def winner(self) -> Row:
        """The best LoRA cell of the round, a row of its score table."""
        return self.result["winner"]

    @property
    def composite(self) -> float:
        """Points of the winner; the input has 0."""
        return self.winner["composite"]

    def checkpoint(self) -> dict[str, Any] | None:
        """Files and digest of the winner's checkpoint; None where the training did not record it."""
        epoch = self.winner["epoch"]
        return next((one for one in self.training["checkpoints"] if one["epoch"] == epoch), None)


@dataclass(frozen=True)
class StudyData:
    """All finished rounds of an experiment, at least one.

    Attributes:
        unfinished: numbers of the rounds that were begun and have no manifest.
        best: the round whose winner has the highest composite; the earliest of equals.
        scores: rows of the best round's score table, best composite first.
        conventions: what each score means, as it is stored with that table.
        photo_scores: rows of the best round's table by photograph.
    """

    workspace: Workspace
    experiment: Experiment
    folder: StudyFolder
    rounds: list[RoundData]
    unfinished: list[int]
    best: RoundData
    scores: list[Row]
    photo_scores: list[Row]
    conventions: dict[str, str]

    @property
    def changed_keys(self) -> list[str]:
        """The experiment's keys that some round's proposal set, in order of appearance."""
        return list(dict.fromkeys(key for one in self.rounds for key in one.result["changes"]))

    def cautions(self) -> list[str]:
        """Why the rounds' numbers may not be compared; empty where they may."""
        found = []
        for what, values in (
            ("different perceptual metrics", {one.result["perceptual"]["name"] for one in self.rounds}),
            ("different photographs", {one.result["dataset_digest"] for one in self.rounds}),
            ("different base models", {one.result["base_digest"] for one in self.rounds}),
        ):
            if len(values) > 1:
                found.append(f"The rounds were made with {what}: their composites cannot be compared.")
        return found


def load_study(workspace: Workspace, experiment: Experiment) -> StudyData:
    """Reads every finished round, and the tables of the best one.

    Raises:
        DataError: no round has finished, or a file of a finished round cannot be read.
        ConfigError: the experiment stored with a round cannot be read.
    """
    folder = workspace.study(experiment.name)
    rounds = [_load_round(one) for one in folder.rounds()]
    if not rounds:
        raise DataError(f"no round of {experiment.name} has finished in {folder.root}; run: photo-enhancer tune")
    best = max(rounds, key=lambda one: (one.composite, -one.number))
    finished = {one.number for one in rounds}
    begun = {_number(RoundFolder(path)) for path in folder.root.glob("round-*") if path.is_dir()}
    scores = _read_table(best.folder, "table").sort("composite", descending=True, nulls_last=True)
    meanings = pl.read_parquet_metadata(best.folder.table)
    return StudyData(
        workspace=workspace,
        experiment=experiment,
        folder=folder,
        rounds=rounds,
        unfinished=sorted(begun - finished),
        best=best,
        scores=scores.to_dicts(),
        photo_scores=_read_table(best.folder, "photo_table").to_dicts(),
        conventions={name: meanings[name] for name in scores.columns if name in meanings},
    )


def _load_round(folder: RoundFolder) -> RoundData:
    return RoundData(
        number=_number(folder),
        folder=folder,
        experiment=load_experiment(folder.experiment),
        result=read_json(folder.result),
        training=read_json(folder.training_done),
        curve=_read_curve(folder),
    )


def _number(folder: RoundFolder) -> int:
    return int(folder.root.name.removeprefix("round-"))


def _read_table(folder: RoundFolder, name: str) -> pl.DataFrame:
    path = getattr(folder, name)
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}; run the round's scoring again") from error


def _read_curve(folder: RoundFolder) -> Curve:
    """A last line that a crash cut short is left out, as is a loss that is not finite."""
    rows = []
    if folder.train_log.exists():
        for line in folder.train_log.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if math.isfinite(row["loss"]) and math.isfinite(row["learning_rate"]):
                rows.append(row)
    rows.sort(key=lambda row: row["images"])
    return Curve(
        images=[row["images"] for row in rows],
        loss=[row["loss"] for row in rows],
        learning_rate=[row["learning_rate"] for row in rows],
    )
