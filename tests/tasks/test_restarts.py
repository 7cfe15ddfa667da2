"""A run that crashes for ever is not restarted for ever."""

import pytest

from tasks.restarts import RESTARTS, refuse_endless_restarts


def test_the_run_after_the_last_restart_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_endless_restarts()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(RESTARTS))
    refuse_endless_restarts()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(RESTARTS + 1))
    with pytest.raises(RuntimeError, match=f"started {RESTARTS + 1} times"):
        refuse_endless_restarts()
