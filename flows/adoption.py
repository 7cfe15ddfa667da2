"""A guard against results of another proposal."""

from collections.abc import Callable
from typing import Any

Result = dict[str, Any]


def own_result(run: Callable[[], Result], digest: str) -> Result:
    """Runs a round as a subflow and returns the result that belongs to it.

    A flow that Prefect starts again adopts the finished subflows of its first attempt by the order of the calls,
    whatever their parameters are. A result with another digest than this round's is such a stranger; the next call
    is the next in order, and at last one that really runs.

    Args:
        run: calls the subflow.
        digest: of the round that is wanted.

    Raises:
        RuntimeError: the round ran, and its result has another digest all the same.
    """
    seen: list[Result] = []
    while (result := run())["digest"] != digest:
        if result in seen:
            raise RuntimeError(f"round {result['round']} ended with digest {result['digest']}, wanted was {digest}")
        seen.append(result)
    return result
