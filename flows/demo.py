"""The whole loop on shipped photographs, within minutes on a laptop's CPU."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.names import run_name
from flows.tuning import tuning_flow
from tasks.demo import create
from tasks.restarts import refuse_endless_restarts
from tasks.root import require_inside


@flow(name="demo", flow_run_name=run_name("demo"))
def demo_flow(workspace: Path = Path("demo"), overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Makes a small workspace and runs the loop in it; no GPU and no download.

    Args:
        workspace: Where to make it; one that is there is used again.
        overrides: Changes for this run alone, each as section.key=value.
    """
    refuse_endless_restarts()
    require_inside(workspace)
    create(workspace)
    return tuning_flow(workspace, overrides=overrides)
