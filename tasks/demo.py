"""The demonstration's workspace."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE


@task(name="create demo", cache_policy=NO_CACHE)
def create(workspace: Path) -> None:
    """Cuts shipped photographs into parts and makes a workspace of them, unless it is there."""
    from lora_core.demo import create_demo

    create_demo(workspace)
