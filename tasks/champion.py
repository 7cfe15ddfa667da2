"""The best round's LoRA to `output/champion/`."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="crown", cache_policy=NO_CACHE)
def crown(workspace: Workspace, experiment: Experiment) -> Any:
    """Puts the winner, its settings and its model card in place."""
    from lora_core import champion

    return champion.crown(workspace, experiment)
