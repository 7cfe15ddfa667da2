"""Starting the sweep of a round in a process of its own. Imports no torch."""

from typing import Any

from lora_core.bases import base_digest
from lora_core.data.pairs import pairs_digest, test_pairs
from lora_core.experiment import Experiment, save_experiment
from lora_core.files import read_json, value_digest
from lora_core.process import run_in_process
from lora_core.sweep.cells import finished
from lora_core.sweep.grid import grid_digest
from lora_core.workspace import RoundFolder, StudyFolder, Workspace


def sweep_round(workspace: Workspace, experiment: Experiment, number: int) -> dict[str, Any]:
    """Computes the cells of round `number` that are missing.

    Returns:
        The manifest `sweep.json`: the test photographs in the order of the race, the cells and the references with the
        number of photographs that each has, and what the race did.

    Raises:
        UserError: what the sweep process raised.
        ProcessDied: it was killed; calling again goes on with the pictures that are missing.
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    if not swept(study, folder, sweep_digest(workspace, experiment, number)):
        save_experiment(experiment, folder.experiment)
        run_in_process(
            "lora_core.sweep.worker", [str(workspace.root), str(folder.experiment), str(number)], folder.root / "sweep"
        )
    manifest: dict[str, Any] = read_json(folder.sweep_done)
    return manifest


def sweep_digest(workspace: Workspace, experiment: Experiment, number: int) -> str:
    """sha256 over what decides the sweep: base, photographs, settings, checkpoints, and how the race scores."""
    done = read_json(workspace.study(experiment.name).round(number).training_done)
    tests = pairs_digest(test_pairs(workspace, experiment), workspace)
    common = grid_digest(experiment, base_digest(experiment.base), tests)
    grid = experiment.sweep.model_dump(mode="json", exclude={"batch"})
    judged = experiment.scoring.deciding() if experiment.sweep.race else None
    return value_digest([common, grid, judged, [row["digest"] for row in done["checkpoints"]]])


def swept(study: StudyFolder, folder: RoundFolder, digest: str) -> bool:
    """Whether `sweep.json` is of this sweep and all its pictures are there."""
    if not folder.sweep_done.exists():
        return False
    done = read_json(folder.sweep_done)
    return done["digest"] == digest and all(
        finished(study, row["id"], done["test"][: row["photos"]]) for row in [*done["cells"], *done["references"]]
    )
