"""Starting the training of a round in a process of its own, or knowing that it is done. Imports no torch."""

from typing import Any

from lora_core.bases import base_digest
from lora_core.data.pairs import Pair, pairs_digest, prior_pairs, test_pairs, training_pairs
from lora_core.errors import ConfigError, LossError
from lora_core.experiment import Experiment, save_experiment
from lora_core.files import file_digest, read_json, value_digest, write_json
from lora_core.lineage import deciding_values
from lora_core.process import run_in_process
from lora_core.sections.sweep import TIMESTEPS_FROM
from lora_core.training.log import read_log
from lora_core.training.preflight import warm_start_files
from lora_core.tuning.pruning import Pruner
from lora_core.workspace import RoundFolder, Workspace

_PRUNER = "pruner.json"


def train_round(
    workspace: Workspace, experiment: Experiment, number: int, pruner: Pruner | None = None
) -> dict[str, Any]:
    """Trains round `number`, or goes on from its last saved state, or returns at once where it is done.

    Args:
        workspace: the workspace.
        experiment: the round's.
        number: the round.
        pruner: gives a hopeless run up, and one whose loss is no number; without it the run goes to its end, also one
            that was given up before.

    Returns:
        The manifest `training/done.json`.

    Raises:
        UserError: what the training process raised.
        ProcessDied: it was killed; calling again goes on.
    """
    folder, pairs = workspace.study(experiment.name).round(number), training_pairs(workspace, experiment)
    base = base_digest(experiment.base)
    digest = run_digest(experiment, pairs, base, workspace)
    if not finished(folder, digest, pruned_too=pruner is not None):
        save_experiment(experiment, folder.experiment)
        _leave_pruner(folder, pruner)
        try:
            run_in_process(
                "lora_core.training.worker",
                [str(workspace.root), str(folder.experiment), str(number)],
                folder.training,
                processes=experiment.training.processes,
                saved=lambda: _newest(folder),
            )
        except LossError as error:
            if pruner is None:
                raise
            outcome = _given_up(folder, experiment, len(pairs), str(error))
            write_json(folder.training_done, {"digest": digest, "base_digest": base, **outcome})
    manifest: dict[str, Any] = read_json(folder.training_done)
    return manifest


def _newest(folder: RoundFolder) -> str | None:
    """The name of the last saved state; `lora_core.training.state` imports torch."""
    return max((file.parent.name for file in folder.states.glob("images-*/state.json")), default=None)


def read_pruner(folder: RoundFolder) -> Pruner | None:
    """The pruner that the process which started the training left for it."""
    file = folder.training / _PRUNER
    return Pruner.of_json(read_json(file)) if file.exists() else None


def _leave_pruner(folder: RoundFolder, pruner: Pruner | None) -> None:
    if pruner is None:
        (folder.training / _PRUNER).unlink(missing_ok=True)
    else:
        write_json(folder.training / _PRUNER, pruner.as_json())


def _given_up(folder: RoundFolder, experiment: Experiment, photos: int, because: str) -> dict[str, Any]:
    """The manifest of a run whose process ended because its loss was no number any more."""
    index, validations = folder.training / "checkpoints.json", read_log(folder.validation_log)
    return {
        "images": validations[-1]["images"] if validations else 0,
        "epochs": experiment.training.epochs,
        "stopped": "pruned",
        "pruned_because": f"{because[:1].upper()}{because[1:]}.",
        "photos": photos,
        "batch": experiment.training.batch,
        "shrunk": False,
        "validations": validations,
        "reading": [],
        "checkpoints": read_json(index) if index.exists() else [],
    }


def run_digest(experiment: Experiment, pairs: list[Pair], base: str, workspace: Workspace) -> str:
    """sha256 over everything that decides the LoRA's bytes; `base` is the base's digest."""
    values = deciding_values(experiment)
    del values["scoring"]
    values["sweep"] = {key: values["sweep"][key] for key in TIMESTEPS_FROM}
    judged = test_pairs(workspace, experiment) if experiment.monitoring.patience else []
    photographs = [pairs_digest(part, workspace) for part in (pairs, prior_pairs(workspace, experiment), judged)]
    start = [file_digest(file) for file in warm_start_files(experiment)]
    return value_digest([values, photographs, base, start])


def finished(folder: RoundFolder, digest: str, *, pruned_too: bool = True) -> bool:
    """Whether the folder holds this run, whole; one that was given up counts where `pruned_too`.

    Raises:
        ConfigError: it holds another run.
    """
    if not folder.training_done.exists():
        return False
    done = read_json(folder.training_done)
    if done["digest"] != digest:
        raise ConfigError(
            f"{folder.root} holds the training of another experiment, data set or base; "
            "move it away or give the experiment another name"
        )
    if done.get("pruned_because") and not pruned_too:
        return False
    return all((folder.root / row["file"]).exists() for row in done["checkpoints"])
