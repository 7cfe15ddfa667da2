"""Finished studies whose winners can become the champion: those of `report_study` with files for their checkpoints."""

from pathlib import Path

from lora_core.experiment import save_experiment
from lora_core.files import file_digest, read_json, write_json
from lora_core.lineage import append_ledger
from tests.report_study import Study, make_study


def make_candidate(
    root: Path, photos: Path, name: str = "study", *, quality: float = 1.0, rounds: int = 1, limit: int = 6
) -> Study:
    """A study of which `quality` says how well its winner restores; the last one made is the workspace's experiment."""
    study = make_study(root, photos, name=name, quality=quality, rounds=rounds, limit=limit)
    folders = study.workspace.study(name)
    for folder in folders.rounds():
        done = read_json(folder.training_done)
        for checkpoint in done["checkpoints"]:
            diffusers = folder.root / checkpoint["diffusers"]
            diffusers.mkdir(parents=True, exist_ok=True)
            (diffusers / "pytorch_lora_weights.safetensors").write_bytes(f"diffusers {name} {diffusers.name}".encode())
            kohya = folder.root / checkpoint["kohya"]
            kohya.write_bytes(f"kohya {name} {folder.root.name} {kohya.name}".encode())
            checkpoint["digest"] = file_digest(kohya)
        write_json(folder.training_done, {**done, "photos": 20})
        append_ledger(folders, read_json(folder.result))
    save_experiment(study.experiment, study.workspace.experiment)
    return study
