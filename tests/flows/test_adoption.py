"""A started-again flow adopts finished subflows by position; a result of another proposal must not slip in."""

from typing import Any

import pytest
from prefect import flow

from flows.adoption import own_result
from flows.round import round_flow

ATTEMPTS: list[int] = []
RUNS: list[tuple[int, str]] = []


@flow(persist_result=True, result_serializer="json")
def child(number: int, digest: str) -> dict[str, Any]:
    RUNS.append((number, digest))
    return {"round": number, "digest": digest}


@flow(retries=1)
def parent() -> list[str]:
    """The proposal of round 1 is another one after the restart, that of round 0 is not."""
    ATTEMPTS.append(len(ATTEMPTS))
    digests = ["zero", f"one, attempt {len(ATTEMPTS)}"]
    results = [own_result(lambda number=number: child(number, digests[number]), digests[number]) for number in (0, 1)]
    if len(ATTEMPTS) == 1:
        raise RuntimeError("restart")
    return [result["digest"] for result in results]


def test_a_restarted_flow_takes_only_results_of_its_own_proposals(prefect_server: None) -> None:
    ATTEMPTS.clear()
    RUNS.clear()
    assert parent() == ["zero", "one, attempt 2"]
    assert RUNS == [(0, "zero"), (1, "one, attempt 1"), (1, "one, attempt 2")], "round 0 ran once, round 1 anew"


def test_a_round_that_ran_and_has_another_digest_is_refused() -> None:
    with pytest.raises(RuntimeError, match="ended with digest other, wanted was mine"):
        own_result(lambda: {"round": 3, "digest": "other"}, "mine")


def test_the_round_flow_persists_its_result_as_json() -> None:
    assert round_flow.persist_result is True and round_flow.result_serializer == "json"
