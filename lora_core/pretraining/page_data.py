"""What the page of a base model is made from: the files of its work folder, any of which may not be there yet."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_core.files import read_json
from lora_core.pretraining.plateau import Plateau, plateau
from lora_core.pretraining.recipe import Recipe, load_recipe
from lora_core.pretraining.verdict import Evidence, Verdict, judge

Row = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One training, of the autoencoder or of the UNet.

    Attributes:
        log: rows of `log.jsonl` by images seen; empty before the first.
        validation: rows of `validation.jsonl`.
        done: `done.json`; None while the stage has not ended.
    """

    log: list[Row]
    validation: list[Row]
    done: Row | None

    @property
    def begun(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.log or self.validation or self.done)


@dataclass(frozen=True)
class PretrainingData:
    """A work folder as read.

    Attributes:
        survey: `data/survey.json`, None before the photographs have been looked at.
        rejects: rows of `data/rejects.jsonl`.
        samples: (epoch, PNG file), epochs rising.
        evaluation: `evaluation.json`, None before the evaluation.
    """

    recipe: Recipe
    survey: Row | None
    rejects: list[Row]
    autoencoder: Stage
    unet: Stage
    samples: list[tuple[int, Path]]
    evaluation: Row | None

    @property
    def plateau(self) -> Plateau:
        """The halvings and the best of the UNet's validations so far."""
        return plateau([row["loss"] for row in self.unet.validation], self.recipe.training)

    def reference(self, name: str) -> float | None:
        """A loss to compare with, `mean_predictor` or `base`; None where there is none.

        `done.json` has it as a number, as a validation row, or by timestep, whose mean is the validation loss.
        """
        value = (self.unet.done or {}).get("references", {}).get(name)
        if isinstance(value, dict):
            return float(value["loss"] if "loss" in value else sum(value.values()) / len(value))
        return value

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the finished UNet; None while there is none or nothing was validated."""
        done, rows, mean = self.unet.done, self.unet.validation, self.reference("mean_predictor")
        if done is None or not rows or mean is None:
            return None
        evidence = Evidence(
            validation=[(row["epoch"], row["loss"]) for row in rows],
            training=[(row["epoch"], row["training_loss"]) for row in rows if row.get("training_loss") is not None],
            photos=done["photos"],
            stopped=done["stopped"],
            mean_predictor=mean,
            base=self.reference("base"),
            channels=() if self.recipe.unet.config or self.recipe.resume else self.recipe.unet.channels,
        )
        return judge(evidence)


def load_pretraining(work: Path) -> PretrainingData:
    """Reads a work folder.

    Raises:
        ConfigError: `recipe.yaml` is missing or not valid.
        DataError: a JSON file that is there cannot be read.
    """
    data = work / "data"
    return PretrainingData(
        recipe=load_recipe(work / "recipe.yaml"),
        survey=_optional(data / "survey.json"),
        rejects=_rows(data / "rejects.jsonl"),
        autoencoder=_stage(work / "autoencoder"),
        unet=_stage(work / "unet"),
        samples=sorted((int(path.stem[6:]), path) for path in (work / "unet" / "samples").glob("epoch-[0-9]*.png")),
        evaluation=_optional(work / "evaluation.json"),
    )


def _stage(folder: Path) -> Stage:
    def finite(name: str) -> list[Row]:
        rows = [row for row in _rows(folder / name) if math.isfinite(row["loss"])]
        return sorted(rows, key=lambda row: row["images"])

    return Stage(finite("log.jsonl"), finite("validation.jsonl"), _optional(folder / "done.json"))


def _optional(path: Path) -> Row | None:
    return dict(read_json(path)) if path.exists() else None


def _rows(path: Path) -> list[Row]:
    """JSON lines; a line that a crash or a run under way has cut short is left out."""
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
