"""A round's beginning and end: the claim on its folder, and the manifest that is written last."""

from dataclasses import asdict
from typing import Any

import polars as pl

from lora_core.bases import base_digest
from lora_core.data.pairs import dataset_digest, pairs_digest, test_pairs
from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_experiment, save_experiment
from lora_core.files import read_json, write_json
from lora_core.lineage import append_ledger, check_round, read_results, round_digest
from lora_core.report.words import counted, gain_phrases, inference_phrase, listed, signed
from lora_core.scoring import score_round
from lora_core.training.log import read_log
from lora_core.tuning.batches import known_to
from lora_core.tuning.counsel import counsel, counsel_pruned
from lora_core.tuning.diagnosis import diagnose, diagnose_pruned
from lora_core.tuning.evidence import Scores
from lora_core.tuning.pruning import validated_on
from lora_core.workspace import Workspace

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
    done = read_json(folder.training_done)
    earlier = known_to(experiment, number, read_results(study))
    judged = (_given_up if done.get("pruned_because") else _scored)(workspace, experiment, number, done, earlier)
    result = {
        "round": number,
        "digest": digest,
        "base_digest": base_digest(experiment.base),
        "dataset_digest": dataset_digest(workspace, experiment),
        "test_digest": pairs_digest(test_pairs(workspace, experiment), workspace),
        "changes": changes,
        "reason": reason,
        **judged,
        "reading": done["reading"],
        "images": done["images"],
        "epochs": done["epochs"],
        "validated_on": validated_on(experiment),
        "validations": done.get("validations", []),
    }
    write_json(folder.diagnosis, result["diagnosis"])
    write_json(folder.result, result)
    append_ledger(study, result)
    return result


def _scored(
    workspace: Workspace, experiment: Experiment, number: int, done: dict[str, Any], earlier: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the scores of a round say."""
    folder = workspace.study(experiment.name).round(number)
    scores = score_round(workspace, experiment, number)
    rows = {part: scores[part] for part in _JUDGED_BY}
    if lacking := [part for part, row in rows.items() if row is None]:
        raise DataError(f"{folder.table} has no row for '{lacking[0]}'; sweep the round again: photo-enhancer sweep")
    table, by_photo = pl.read_parquet(folder.table), pl.read_parquet(folder.photo_table)
    log = read_log(folder.train_log)
    findings = diagnose(experiment, table, by_photo, log, done)
    return {
        **rows,
        "perceptual": scores["perceptual"],
        "beats": {name: rows["winner"]["composite"] > rows[name]["composite"] for name in _RIVALS},
        "race": read_json(folder.sweep_done).get("race"),
        "constraints": scores["constraints"],
        "diagnosis": [asdict(finding) for finding in findings],
        "advice": counsel(
            experiment,
            Scores(experiment, table, by_photo),
            done,
            log,
            earlier,
            _rate_as_written(workspace, experiment, earlier),
        ),
        "pruned": False,
        "pruned_because": None,
    }


def _rate_as_written(workspace: Workspace, experiment: Experiment, earlier: list[dict[str, Any]]) -> float | None:
    """The learning rate of the rounds that did not change it; None where there is none."""
    study = workspace.study(experiment.name)
    plain = [result["round"] for result in earlier if "training.learning_rate" not in result["changes"]]
    return load_experiment(study.round(plain[0]).experiment).training.learning_rate if plain else None


def _given_up(
    workspace: Workspace, experiment: Experiment, number: int, done: dict[str, Any], earlier: list[dict[str, Any]]
) -> dict[str, Any]:
    """The same of a round that was pruned: it has no scores."""
    log = read_log(workspace.study(experiment.name).round(number).train_log)
    return {
        **dict.fromkeys(_JUDGED_BY),
        "perceptual": None,
        "beats": {},
        "race": None,
        "constraints": [],
        "diagnosis": [asdict(finding) for finding in diagnose_pruned(experiment, done)],
        "advice": counsel_pruned(experiment, done, log, earlier, _rate_as_written(workspace, experiment, earlier)),
        "pruned": True,
        "pruned_because": done["pruned_because"],
    }


def result_in_words(result: dict[str, Any]) -> str:
    """A finished round in two or three sentences, from its `result.json`."""
    if result["pruned"]:
        return f"Round {result['round']} was given up early and has no scores: {result['pruned_because']}"
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
