"""A new workspace: folders, copies of photographs, an experiment file."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.names import run_name
from flows.parameters import Place, enter
from lora_core.experiment import PresetName
from tasks.restarts import refuse_endless_restarts
from tasks.storage import publish


@flow(name="init", flow_run_name=run_name("init"))
def init_flow(
    workspace: Place,
    preset: PresetName = "pocket",
    photos: Path | None = None,
    test: Path | None = None,
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Makes a workspace; an experiment that is there already is refused, photographs are copied and never moved.

    Args:
        workspace: The folder to make, or s3://bucket/path.
        preset: The shipped experiment to start from.
        photos: Folder of clean photographs to copy into it.
        test: Folder of clean photographs to score on, instead of a hold-out.
        hold_out: Share of the photographs that is only scored on.
        overrides: Changes to the experiment, each as section.key=value.
    """
    refuse_endless_restarts()
    place = enter(workspace)
    from lora_core.preparation import create_workspace

    created = create_workspace(place.root, preset, photos, test, hold_out, overrides)
    publish(place)
    unreadable = [f"{bad.path}: {bad.reason}" for bad in created.unreadable]
    return {"train": created.train, "test": created.test, "left_out": unreadable}
