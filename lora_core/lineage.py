"""Lineage: what decides a round's result as one digest, and the ledger of finished rounds."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment
from lora_core.files import value_digest, write_text
from lora_core.sections.scoring import COLUMNS_ONLY
from lora_core.workspace import RoundFolder, StudyFolder

RESULTS_VERSION = 3
"""Raised when the code gives other results from equal settings, so that older rounds are not taken for new ones."""

_NO_INFLUENCE = {
    "training": ("time_limit", "state_every", "keep_states", "keep_best", "fit_memory", "processes", "sharding"),
    "base": ("model", "revision", "allow_pickle"),
    "monitoring": ("samples", "prompts", "trackers"),
    "scoring": COLUMNS_ONLY,
}
"""Keys that do not decide a result; the base's content does, under whatever name, and has a digest of its own."""


def round_digest(experiment: Experiment, dataset_digest: str, base_digest: str) -> str:
    """sha256 of all that decides a round's result.

    Name, tuning, execution and time limits are left out: a study may be renamed, prolonged, given more time or workers.

    Args:
        experiment: the round's, its changes applied.
        dataset_digest: of the photographs and their degraded twins.
        base_digest: of the base model's files.
    """
    values = deciding_values(experiment)
    return value_digest(
        {"version": RESULTS_VERSION, "experiment": values, "dataset": dataset_digest, "base": base_digest}
    )


def deciding_values(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON, less what decides no result: name, tuning, execution, time limits, the base's place.

    Of the batch only the images a weight update count, however they are split over steps and processes.
    """
    values = experiment.model_dump(mode="json", exclude={"name", "tuning", "execution"})
    training = values["training"]
    training["batch"] = training["batch"] * training.pop("accumulation") * training["processes"]
    if not values["monitoring"]["patience"]:
        del values["monitoring"]
    for section, keys in _NO_INFLUENCE.items():
        for key in keys if section in values else ():
            del values[section][key]
    return values


def check_round(folder: RoundFolder, digest: str) -> None:
    """Claims a round's folder for a digest, before anything is written into it, and at every return to it.

    Args:
        folder: need not exist yet.
        digest: `round_digest` of what is to run there.

    Raises:
        ConfigError: the folder holds the files of something else.
    """
    claim = folder.root / "digest.txt"
    if claim.exists():
        if (claimed := claim.read_text(encoding="utf-8").strip()) != digest:
            raise ConfigError(
                f"{folder.root} was made from other settings, photographs or another base (digest {claimed[:12]}, "
                f"now {digest[:12]}); set them back, give the experiment another name, or move the folder away"
            )
        return
    # The experiment is written anew by whoever runs the round; hidden files are what a killed write left.
    files = sorted(path.name for path in folder.root.iterdir()) if folder.root.exists() else []
    if strangers := [name for name in files if name != folder.experiment.name and not name.startswith(".")]:
        raise ConfigError(
            f"{folder.root} holds {strangers[0]} and no digest.txt that says what made it; move the folder away"
        )
    write_text(claim, digest + "\n")


def append_ledger(study: StudyFolder, result: dict[str, Any]) -> None:
    """Enters a finished round; entering it again changes nothing.

    Args:
        study: the experiment's folder.
        result: the round's `result.json`.

    Raises:
        ConfigError: the ledger holds the round with another digest.
        DataError: the ledger is damaged.
    """
    study.root.mkdir(parents=True, exist_ok=True)
    with FileLock(study.root / ".ledger.lock"):  # rounds that run at the same time end at the same time
        rows = read_results(study)
        for row in rows:
            if row["round"] == result["round"] and row["digest"] != result["digest"]:
                raise ConfigError(
                    f"{study.ledger} holds round {result['round']} with another digest; "
                    "give the experiment another name"
                )
        others = [row for row in rows if row["round"] != result["round"]]
        lines = [json.dumps(row, ensure_ascii=False) for row in sorted([*others, result], key=lambda row: row["round"])]
        write_text(study.ledger, "\n".join(lines) + "\n")


def read_results(study: StudyFolder) -> list[dict[str, Any]]:
    """The results of all finished rounds, in order; none where there is no ledger yet.

    Raises:
        DataError: a line is no JSON, or as `of_this_version`.
    """
    if not study.ledger.exists():
        return []
    rows = []
    for number, line in enumerate(study.ledger.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        try:
            rows.append(of_this_version(json.loads(line), study.ledger))
        except ValueError as error:
            raise DataError(f"{study.ledger}, line {number}: no JSON ({error}); delete that line") from error
    return sorted(rows, key=lambda row: row["round"])


def of_this_version(result: dict[str, Any], file: Path) -> dict[str, Any]:
    """A round's result as it is, if it says which test photographs it was scored on; `file` holds it.

    Raises:
        DataError: it does not, so nothing can be compared with it.
    """
    if "test_digest" not in result:
        raise DataError(
            f"{file}: round {result['round']} was finished by an older version and does not name its test photographs; "
            "move the study's folder away, or give the experiment another name"
        )
    return result
