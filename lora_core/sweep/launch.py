"""Starting the sweep of a round in a process of its own. Imports no torch."""

from typing import Any

from lora_core.bases import base_digest
from lora_core.company import Company
from lora_core.data.pairs import pairs_digest, test_pairs
from lora_core.errors import DataError
from lora_core.experiment import Experiment, save_experiment
from lora_core.files import read_json, value_digest, write_json
from lora_core.process import run_in_process
from lora_core.share import WHOLE, Share, require_same
from lora_core.sweep.cells import finished, painted, write_manifest
from lora_core.sweep.grid import grid_digest
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

PART_DONE = "part.json"


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
    digest = sweep_digest(workspace, experiment, number)
    if not swept(study, folder, digest):
        made = _run(workspace, experiment, number, WHOLE)
        assert made is not None  # there are no others to wait for
        conclude_sweep(workspace, experiment, number, made, digest)
    manifest: dict[str, Any] = read_json(folder.sweep_done)
    return manifest


def sweep_part(
    workspace: Workspace, experiment: Experiment, number: int, share: Share, digest: str
) -> dict[str, Any] | None:
    """Paints a share of the missing pictures.

    Args:
        share: one of several; all of them may be at work at once, here and elsewhere.
        digest: `parts_digest` as it is where the work is shared out.

    Returns:
        For `conclude_sweep`, when all pictures are there; None if the race went no further because the parts of others
        were missing.

    Raises:
        DataError, BaseModelError: this machine lacks, or has another base, photographs, checkpoints or, for a race,
            perceptual metric.
        UserError, ProcessDied: as `sweep_round`.
    """
    study = workspace.study(experiment.name)
    folder = study.round(number)
    if not folder.training_done.exists():
        raise DataError(f"{folder.training_done} is not here; every worker needs the workspace in a folder they share")
    what = "base, photographs, checkpoints or perceptual metric"
    require_same(parts_digest(workspace, experiment, number), digest, what, folder.root)
    return _run(workspace, experiment, number, share)


def conclude_sweep(
    workspace: Workspace, experiment: Experiment, number: int, made: dict[str, Any], digest: str
) -> None:
    """Writes the manifests of a sweep whose pictures are all there.

    Args:
        made: what a process says that saw them all, as `sweep_part` returns it.
        digest: `sweep_digest`.

    Raises:
        ResourceError: another run writes the sweep.
    """
    study = workspace.study(experiment.name)
    with company_of(study.round(number), WHOLE).at_work():
        for row in (*made["cells"], *made["references"]):
            names = made["test"][: row["photos"]]
            if not finished(study, row["id"], names):
                write_manifest(study, {key: value for key, value in row.items() if key != "photos"}, names)
        write_json(study.round(number).sweep_done, {"digest": digest, **made})


def company_of(folder: RoundFolder, share: Share) -> Company:
    """One of the processes that sweep a round."""
    return Company(folder.root / "sweep", share)


def _run(workspace: Workspace, experiment: Experiment, number: int, share: Share) -> dict[str, Any] | None:
    folder = workspace.study(experiment.name).round(number)
    save_experiment(experiment, folder.experiment)
    own = company_of(folder, share).own
    run_in_process(
        "lora_core.sweep.worker",
        [str(workspace.root), str(folder.experiment), str(number), str(share)],
        own,
        saved=lambda: painted(own),
    )
    made: dict[str, Any] | None = read_json(own / PART_DONE)
    return made


def sweep_digest(workspace: Workspace, experiment: Experiment, number: int) -> str:
    """sha256 over what decides the sweep: base, photographs, settings, checkpoints, and how the race scores."""
    done = read_json(workspace.study(experiment.name).round(number).training_done)
    tests = pairs_digest(test_pairs(workspace, experiment), workspace)
    common = grid_digest(experiment, base_digest(experiment.base), tests)
    grid = experiment.sweep.model_dump(mode="json", exclude={"batch"})
    judged = experiment.scoring.deciding() if experiment.sweep.race else None
    return value_digest([common, grid, judged, [row["digest"] for row in done["checkpoints"]]])


def parts_digest(workspace: Workspace, experiment: Experiment, number: int) -> str:
    """sha256 over what all parts must agree on: `sweep_digest`, and the perceptual metric that this machine judges by.

    With `scoring.perceptual=auto` machines may choose differently; their races would drop different cells, and each
    would wait for pictures that the others never make.

    Raises:
        ConfigError, ResourceError: the race's perceptual metric cannot be had here.
    """
    from lora_core.perceptual import perceptual_meaning  # its import takes a second

    judged = perceptual_meaning(experiment.scoring) if experiment.sweep.race else None
    return value_digest([sweep_digest(workspace, experiment, number), judged])


def swept(study: StudyFolder, folder: RoundFolder, digest: str) -> bool:
    """Whether `sweep.json` is of this sweep and all its pictures are there."""
    if not folder.sweep_done.exists():
        return False
    done = read_json(folder.sweep_done)
    return done["digest"] == digest and all(
        finished(study, row["id"], done["test"][: row["photos"]]) for row in [*done["cells"], *done["references"]]
    )
