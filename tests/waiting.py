"""Waits for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait(until: Callable[[], Answer], what: str, seconds: float = 60, every: float = 0.05) -> Answer:
    """Asks every so many seconds until the answer is true, and returns it.

    Raises:
        AssertionError: it took longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (answer := until()):
        assert time.monotonic() < deadline, f"{what} took more than {seconds:.0f} s"
        time.sleep(every)
    return answer
