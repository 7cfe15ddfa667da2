"""What the report is made from: the files of the finished rounds, read once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import read_json
from lora_core.judging import Judgement, read_judgements
from lora_core.lineage import of_this_version
from lora_core.scoring.conclusions import rank
from lora_core.scoring.tables import best_first
from lora_core.training.log import read_log
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
        training: `training/done.json`; without checkpoints where the round was stopped before it was written.
    """

    number: int
    folder: RoundFolder
    experiment: Experiment
    result: dict[str, Any]
    training: dict[str, Any]
    curve: Curve

    @property
    def pruned(self) -> bool:
        """Whether it was stopped as hopeless, and therefore has no scores and no winner."""
        return bool(self.result["pruned"])

    @property
    def winner(self) -> Row:
        """The best LoRA cell of a scored round, a row of its score table."""
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
    """All finished rounds of an experiment, at least one of them scored.

    Attributes:
        rounds: those that were scored.
        pruned: those that were stopped early and have no scores.
        unfinished: numbers of the rounds that were begun and have no manifest.
        best: the round whose winner ranks highest (`lora_core.scoring.rank`); the earliest of equals.
        scores: rows of the best round's score table, best composite first, those that the race dropped last.
        by_photo: rows of the best round's table by photograph: by cell, then by photograph.
        degradations: rows of the best round's table by degradation.
        conventions: what each score means, as it is stored with that table.
        judgements: what people preferred, of any round.
    """

    workspace: Workspace
    experiment: Experiment
    folder: StudyFolder
    rounds: list[RoundData]
    pruned: list[RoundData]
    unfinished: list[int]
    best: RoundData
    scores: list[Row]
    by_photo: dict[str, dict[str, Row]]
    degradations: list[Row]
    conventions: dict[str, str]
    judgements: list[Judgement]

    @property
    def finished(self) -> list[RoundData]:
        """The scored and the stopped rounds in order."""
        return sorted([*self.rounds, *self.pruned], key=lambda one: one.number)

    @property
    def running(self) -> list[Row]:
        """The rows of `scores` that saw every test photograph; only these can be compared with each other."""
        return [row for row in self.scores if row["dropped_after"] is None]

    @property
    def changed_keys(self) -> list[str]:
        """The experiment's keys that some round's proposal set, in order of appearance."""
        return changed_keys(self.finished)

    @property
    def winner(self) -> Row:
        """The best round's winner as its score table has it."""
        found = next((row for row in self.scores if row["id"] == self.best.winner["id"]), None)
        return found or self.best.winner

    def points(self, cell: str) -> dict[str, float]:
        """The composite of each photograph, empty where it was not kept."""
        rows = self.by_photo.get(cell, {})
        return {photo: row["composite"] for photo, row in rows.items() if row.get("composite") is not None}

    def cautions(self) -> list[str]:
        """Why the rounds' numbers may not be compared, and which constraint nothing meets; empty where all is well."""
        found = []
        for what, values in (
            ("different perceptual metrics", {one.result["perceptual"]["name"] for one in self.rounds}),
            ("different test photographs", {one.result["test_digest"] for one in self.rounds}),
            ("different base models", {one.result["base_digest"] for one in self.rounds}),
        ):
            if len(values) > 1:
                found.append(f"The rounds were made with {what}: their composites cannot be compared.")
        return found + list(self.best.result["constraints"])


def changed_keys(rounds: Sequence[RoundData]) -> list[str]:
    """The experiment's keys that some round's proposal set, in order of appearance."""
    return list(dict.fromkeys(key for one in rounds for key in one.result["changes"]))


def load_study(workspace: Workspace, experiment: Experiment) -> StudyData:
    """Reads every finished round, and the tables of the best one.

    Raises:
        DataError: no round has been scored, or a file of a finished round cannot be read.
        ConfigError: the experiment stored with a round cannot be read.
    """
    folder = workspace.study(experiment.name)
    rounds = load_rounds(folder)
    if not rounds:
        raise DataError(f"no round of {experiment.name} has finished in {folder.root}; run: photo-enhancer tune")
    scored = [one for one in rounds if not one.pruned]
    if not scored:
        raise DataError(
            f"no round of {experiment.name} has been scored: {rounds[-1].result['pruned_because']} "
            "Change the experiment, or go on with: photo-enhancer tune"
        )
    best = max(scored, key=lambda one: (rank(one.winner), -one.number))
    finished = {one.number for one in rounds}
    begun = {_number(RoundFolder(path)) for path in folder.root.glob("round-*") if path.is_dir()}
    scores = best_first(_read_table(best.folder, "table"))
    meanings = pl.read_parquet_metadata(best.folder.table)
    return StudyData(
        workspace=workspace,
        experiment=experiment,
        folder=folder,
        rounds=scored,
        pruned=[one for one in rounds if one.pruned],
        unfinished=sorted(begun - finished),
        best=best,
        scores=scores.to_dicts(),
        by_photo=_grouped(_read_table(best.folder, "photo_table").to_dicts()),
        degradations=_degradations(best.folder),
        conventions={name: meanings[name] for name in scores.columns if name in meanings},
        judgements=read_judgements(folder),
    )


def load_rounds(folder: StudyFolder) -> list[RoundData]:
    """Every finished round in order, scored or stopped early. Raises as `load_study`."""
    return [_load_round(one) for one in folder.rounds()]


def _load_round(folder: RoundFolder) -> RoundData:
    result = of_this_version(read_json(folder.result), folder.result)
    stopped = result["pruned"] and not folder.training_done.exists()
    return RoundData(
        number=_number(folder),
        folder=folder,
        experiment=load_experiment(folder.experiment),
        result=result,
        training={"checkpoints": []} if stopped else read_json(folder.training_done),
        curve=_read_curve(folder),
    )


def _grouped(rows: list[Row]) -> dict[str, dict[str, Row]]:
    grouped: dict[str, dict[str, Row]] = {}
    for row in rows:
        grouped.setdefault(row["id"], {})[row["photo"]] = row
    return grouped


def _degradations(folder: RoundFolder) -> list[Row]:
    return _read_table(folder, "degradation_table").to_dicts() if folder.degradation_table.exists() else []


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
    rows = [
        row for row in read_log(folder.train_log) if math.isfinite(row["loss"]) and math.isfinite(row["learning_rate"])
    ]
    rows.sort(key=lambda row: row["images"])
    return Curve(
        images=[row["images"] for row in rows],
        loss=[row["loss"] for row in rows],
        learning_rate=[row["learning_rate"] for row in rows],
    )
