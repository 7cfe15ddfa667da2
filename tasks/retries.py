"""When doing it again may help."""

from collections import Counter
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, TaskRun

from lora_core.process import ProcessDied

RETRIES = 20
FRUITLESS = 2
"""So often in a row a process may die before it has saved anything new."""

_fruitless: Counter[UUID] = Counter()


def retry_may_help(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Only after a process that died without a message of its own: it goes on from its last saved state.

    One that dies again and again where it started dies of something that stays, such as too little memory. A mistake
    of the user's, a full disk or a loss that is not finite would come again at once.
    """
    died = state.result(raise_on_failure=False)
    if not isinstance(died, ProcessDied):
        return False
    _fruitless[task_run.id] = 0 if died.progressed else _fruitless[task_run.id] + 1
    return _fruitless[task_run.id] <= FRUITLESS


AFTER_A_KILL: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": retry_may_help,
}
"""Options of a task whose process goes on where it was killed."""
