"""A workspace whose rounds on the miniature base take seconds, and what a round leaves that must not differ."""

from collections.abc import Sequence
from pathlib import Path

from lora_core.experiment import apply_overrides, load_preset, save_experiment
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

SETTINGS = (
    "name=mini", "data.resolution=64", "data.views=2", "data.test_size=64", "adapter.rank=4", "adapter.alpha=2",
    "adapter.text_encoder=true", "training.epochs=4", "training.checkpoint_every=2", "training.batch=2",
    "training.state_every=8", "sweep.strengths=[0.1, 0.5]", "sweep.steps=[1, 2]", "sweep.start_noises=[0.0, 1.0]",
    "scoring.perceptual=gmsd", "tuning.dimensions=[]",
)  # fmt: skip
QUICK = (
    "training.epochs=1", "training.checkpoint_every=1", "sweep.strengths=[0.1]", "sweep.steps=[1]",
    "sweep.start_noises=[0.0]", "adapter.text_encoder=false", "data.test_limit=3", "sweep.race=false",
)  # fmt: skip
"""Of a round with a single cell."""


def make_workspace(root: Path, base: Path, photos: Path, settings: Sequence[str] = ()) -> Workspace:
    """Five photographs to train on, the others to test on.

    Args:
        root: the workspace's folder.
        base: a diffusers folder.
        photos: folder of photographs.
        settings: of the experiment `mini`, over `SETTINGS`.
    """
    workspace = Workspace(root)
    workspace.create()
    targets = workspace.train / "3_targets"
    workspace.targets.rmdir()
    for number, path in enumerate(list_photos(photos)):
        write_png((targets if number < 5 else workspace.test) / path.name, read_rgb(path))
    experiment = apply_overrides(load_preset("pocket"), [f"base.model={base}", *SETTINGS, *settings])
    save_experiment(experiment, workspace.experiment)
    return workspace


def made(study: StudyFolder, folder: RoundFolder) -> dict[str, bytes]:
    """LoRAs, tables and results of a round, by name."""
    files = [*folder.checkpoints.rglob("*.safetensors"), folder.table, folder.photo_table]
    files += [folder.table.with_suffix(".csv"), folder.table.with_suffix(".xlsx"), folder.result, folder.diagnosis]
    return {str(file.relative_to(study.root)): file.read_bytes() for file in files}
