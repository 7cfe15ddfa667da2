"""A round's beginning and end: the claim on its folder, and the manifest that is written last."""

import json
from dataclasses import asdict
from typing import Any

import polars as pl

from lora_core.bases import base_digest
from lora_core.data.pairs import dataset_digest
from lora_core.errors import DataError
from lora_core.experiment import Experiment, save_experiment
from lora_core.files import read_json, write_json
from lora_core.lineage import append_ledger, check_round, round_digest
from lora_core.report.words import counted, gain_phrases, inference_phrase, listed, signed
from lora_core.scoring import score_round
from lora_core.tuning.diagnosis import diagnose
from lora_core.workspace import RoundFolder, Workspace

_JUDGED_BY = ("winner", "input", "base", "classical", "autoencoder")
_RIVALS = ("input", "classical", "base")

Row = dict[str, Any]


def begin_round(workspace: Workspace, experiment: Experiment, number: int) -> str:
    """Claims the round's folder for this experiment, its photographs and its base, and stores the experiment there.

    Returns:
        The round's digest.

    Raises:
        ConfigError: the folder holds a round of something else.
        DataError: the photographs are not paired.
        BaseModelError: there is no base.
    """
    folder = workspace.study(experiment.name).round(number)
    digest = round_digest(experiment, dataset_digest(workspace, experiment), base_digest(experiment.base))
    check_round(folder, digest)
    save_experiment(experiment, folder.experiment)
    return digest


def finish_round(
    workspace: Workspace, experiment: Experiment, number: int, changes: dict[str, Any], reason: str
) -> dict[str, Any]:
    """Judges a scored round and enters it in the ledger; equal files give equal bytes, however often it is called.

    Args:
        workspace: the workspace.
        experiment: the round's, its changes applied.
        number: the round, from 0.
        changes: what the round's proposal set, by dotted key.
        reason: why it was proposed.

    Returns:
        `result.json`.

    Raises:
        DataError: the sweep lacks LoRA cells, base or references, or a file of the round cannot be read.
        ConfigError: the folder holds a round of something else.
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    digest = begin_round(workspace, experiment, number)
    scores = score_round(workspace, experiment, number)
    rows = {part: scores[part] for part in _JUDGED_BY}
    if lacking := [part for part, row in rows.items() if row is None]:
        raise DataError(f"{folder.table} has no row for '{lacking[0]}'; sweep the round again: photo-enhancer sweep")
    tables = pl.read_parquet(folder.table), pl.read_parquet(folder.photo_table)
    done = read_json(folder.training_done)
    findings = diagnose(experiment, *tables, _log(folder), done)
    diagnosis = [asdict(finding) for finding in findings]
    result = {
        "round": number,
        "digest": digest,
        "base_digest": base_digest(experiment.base),
        "dataset_digest": dataset_digest(workspace, experiment),
        "changes": changes,
        "reason": reason,
        **rows,
        "perceptual": scores["perceptual"],
        "beats": {name: rows["winner"]["composite"] > rows[name]["composite"] for name in _RIVALS},
        "reading": done["reading"],
        "diagnosis": diagnosis,
        "pruned": False,
    }
    write_json(folder.diagnosis, diagnosis)
    write_json(folder.result, result)
    append_ledger(study, result)
    return result


def result_in_words(result: dict[str, Any]) -> str:
    """A finished round in two or three sentences, from its `result.json`."""
    winner = result["winner"]
    better, worse = gain_phrases(winner)
    beaten = [name for name, wins in result["beats"].items() if wins]
    unbeaten = [name for name, wins in result["beats"].items() if not wins]
    names = {
        "input": "the degraded input",
        "classical": f"the best classical filter ({result['classical']['name']})",
        "base": "the base model without a LoRA",
    }
    sentences = [
        f"Round {result['round']}, best of its grid: {inference_phrase(winner)}: "
        f"{signed(winner['composite'], 2)} points on {counted(winner['photos'], 'photograph')}."
    ]
    sentences.append(f"Against the degraded input {listed([*better, *worse])}.")
    sentences += [f"It beats {listed([names[name] for name in beaten])}."] if beaten else []
    sentences += [f"It does not beat {listed([names[name] for name in unbeaten], 'or')}."] if unbeaten else []
    return " ".join(sentences)


def _log(folder: RoundFolder) -> list[Row]:
    """The training log; a last line that a crash cut short is left out."""
    rows = []
    for line in folder.train_log.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
