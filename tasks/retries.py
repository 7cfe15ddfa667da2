"""When doing it again may help."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from lora_core.process import ProcessDied


def retry_may_help(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Only after a process that died without a message of its own: it goes on from its last saved state.

    A mistake of the user's, a full disk or a loss that is not finite would come again.
    """
    return isinstance(state.result(raise_on_failure=False), ProcessDied)
