"""Starting the training of a round in a process of its own, or knowing that it is done. Imports no torch."""

from typing import Any

from lora_core.bases import base_digest
from lora_core.data.pairs import Pair, pairs_digest, prior_pairs, test_pairs, training_pairs
from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, save_experiment
from lora_core.files import file_digest, read_json, value_digest
from lora_core.lineage import deciding_values
from lora_core.process import run_in_process
from lora_core.training.preflight import warm_start_files
from lora_core.workspace import RoundFolder, Workspace

_TIMESTEPS_FROM = ("strengths", "start_noises", "steps", "samplers", "timestep_spacing")
"""What training reads of the sweep: where restorations start, and with how much noise."""


def train_round(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Trains round `number`, or goes on from its last saved state, or returns at once where it is done.

    Returns:
        The manifest `training/done.json`.

    Raises:
        UserError: what the training process raised.
        ProcessDied: it was killed; calling again goes on.
    """
    folder = workspace.study(experiment.name).round(number)
    digest = run_digest(experiment, training_pairs(workspace, experiment), base_digest(experiment.base), workspace)
    if not finished(folder, digest):
        save_experiment(experiment, folder.experiment)
        run_in_process(
            "lora_core.training.worker",
            [str(workspace.root), str(folder.experiment), str(number)],
            folder.training,
            processes=experiment.training.processes,
        )
    manifest: dict[str, Any] = read_json(folder.training_done)
    return manifest


def run_digest(experiment: Experiment, pairs: list[Pair], base: str, workspace: Workspace) -> str:
    """sha256 over everything that decides the LoRA's bytes; `base` is the base's digest."""
    values = deciding_values(experiment)
    del values["scoring"]
    values["sweep"] = {key: values["sweep"][key] for key in _TIMESTEPS_FROM}
    judged = test_pairs(workspace, experiment) if experiment.monitoring.patience else []
    photographs = [pairs_digest(part, workspace) for part in (pairs, prior_pairs(workspace, experiment), judged)]
    start = [file_digest(file) for file in warm_start_files(experiment)]
    return value_digest([values, photographs, base, start])


def finished(folder: RoundFolder, digest: str) -> bool:
    """Whether the folder holds this run, whole.

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
    return all((folder.root / row["file"]).exists() for row in done["checkpoints"])
