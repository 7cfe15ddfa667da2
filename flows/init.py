"""A new workspace: folders, copies of photographs, an experiment file."""

from pathlib import Path
from typing import Any

from prefect import flow

from lora_core.experiment import PresetName


@flow(name="init", flow_run_name="init {workspace}")
def init_flow(
    workspace: Path,
    preset: PresetName = "pocket",
    photos: Path | None = None,
    test: Path | None = None,
    hold_out: float = 0.1,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Makes a workspace; an experiment that is there already is refused, photographs are copied and never moved.

    Args:
        workspace: The folder to make.
        preset: The shipped experiment to start from.
        photos: Folder of clean photographs to copy into it.
        test: Folder of clean photographs to score on, instead of a hold-out.
        hold_out: Share of the photographs that is only scored on.
        overrides: Changes to the experiment, each as section.key=value.
    """
    from lora_core.preparation import create_workspace

    created = create_workspace(workspace, preset, photos, test, hold_out, overrides)
    unreadable = [f"{bad.path}: {bad.reason}" for bad in created.unreadable]
    return {"train": created.train, "test": created.test, "left_out": unreadable}
