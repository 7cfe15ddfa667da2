"""Clean base model and pairs to checkpoints."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.lineage import read_results
from lora_core.tuning.batches import known_to
from lora_core.workspace import Workspace
from tasks.retries import AFTER_A_KILL
from tasks.slots import gpu_slot


@task(
    name="train",
    task_run_name="train round {number}",
    cache_policy=NO_CACHE,
    **AFTER_A_KILL,
)
def train(workspace: Workspace, experiment: Experiment, number: int, prune: bool = False) -> dict[str, Any]:
    """Trains the round in a process of its own; a process that was killed goes on from its last saved state."""
    from lora_core.training.launch import train_round
    from lora_core.tuning.pruning import pruner_for

    earlier = known_to(experiment, number, read_results(workspace.study(experiment.name)))
    with gpu_slot(experiment.training.processes):
        return train_round(workspace, experiment, number, pruner_for(experiment, earlier) if prune else None)
