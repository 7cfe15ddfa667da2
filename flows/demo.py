"""The whole loop on shipped photographs, within minutes on a laptop's CPU."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.tuning import tuning_flow
from tasks.demo import create


@flow(name="demo", flow_run_name="demo {workspace}")
def demo_flow(workspace: Path = Path("demo"), overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Makes a small workspace and runs the loop in it; no GPU and no download.

    Args:
        workspace: Where to make it; one that is there is used again.
        overrides: Changes for this run alone, each as section.key=value.
    """
    create(workspace)
    return tuning_flow(workspace, overrides=overrides)
