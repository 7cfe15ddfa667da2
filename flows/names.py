"""What a flow run is called: its verb, the workspace's folder, the experiment and the round."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from flows.parameters import Place, settle
from lora_core.errors import UserError
from lora_core.storage import local_folder


def run_name(verb: str = "") -> Callable[[], str]:
    """A name for Prefect to ask for when a run begins: `tuning work: pocket`, `train work: pocket, round 3`.

    Args:
        verb: what the flow does; empty where the round says it all.
    """

    def name() -> str:
        said = flow_run.parameters
        place = said.get("workspace") or said.get("work") or "."
        folder = Path(place)
        words = [verb] if verb else []
        words.append((folder.name or folder.resolve().name) + _experiment(place, said))
        return " ".join(words) + (f", round {said['number']}" if "number" in said else "")

    return name


def _experiment(place: Place, said: dict[str, Any]) -> str:
    """`: <experiment>`; nothing where there is none to be read, which the flow itself then says better.

    A place in a bucket is not opened for a title.
    """
    given = {key: said[key] for key in ("experiment", "preset", "overrides") if said.get(key)}
    try:
        return f": {settle(place, **given)[1].name}" if local_folder(place) is not None else ""
    except (UserError, OSError):
        return ""
