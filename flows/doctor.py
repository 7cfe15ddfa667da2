"""Check the machine that a worker runs on."""

from pathlib import Path

from prefect import flow
from prefect.settings import get_current_settings

from flows.names import run_name
from lora_core.doctor import Check, examine
from tasks.restarts import refuse_endless_restarts
from tasks.root import require_inside


@flow(name="doctor", flow_run_name=run_name("doctor"))
def doctor_flow(workspace: Path | None = None) -> list[Check]:
    """Checks the installation where this flow runs; `photo-enhancer doctor` does it without a server.

    Args:
        workspace: A workspace to look at, too.
    """
    refuse_endless_restarts()
    if workspace is not None:
        require_inside(workspace)
    return examine(workspace, get_current_settings().api.url)
