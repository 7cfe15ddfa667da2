"""The best round's LoRA to `output/champion/`."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="crown", cache_policy=NO_CACHE)
def crown(workspace: Workspace, experiment: Experiment) -> Path | None:
    """Puts the winner, its settings and its model card in place; returns the folder."""
    from lora_core import champion

    return champion.crown(workspace, experiment)
