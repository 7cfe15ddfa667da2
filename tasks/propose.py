"""What the next round tries."""

from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace

if TYPE_CHECKING:
    from lora_core.tuning.study import Proposal


@task(name="propose", task_run_name="propose round {number}", cache_policy=NO_CACHE)
def propose(workspace: Workspace, experiment: Experiment, number: int, results: list[dict[str, Any]]) -> "Proposal":
    """Asks the study, with the diagnosis of the last round; what was proposed before is proposed again."""
    from lora_core.tuning.diagnosis import Finding
    from lora_core.tuning.study import propose as ask

    findings = [Finding(**finding) for finding in results[-1]["diagnosis"]] if results else []
    return ask(workspace, experiment, number, findings)
