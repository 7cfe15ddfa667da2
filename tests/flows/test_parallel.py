"""Rounds at the same time are runs of a deployment: found again, waited for, cancelled with the loop."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Scheduled

from flows import parallel
from flows.parallel import require_deployment, run_rounds
from lora_core.errors import ConfigError, TrainingError
from tests.prefect_server import PrefectServer, running_server, using
from tests.waiting import wait

ATTEMPTS: list[int] = []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server, and a process that runs what the deployment round/round is asked."""
    home = tmp_path_factory.mktemp("parallel")
    with running_server(home) as server, using(server):
        with pytest.raises(ConfigError, match="the server has no deployment round/round; start one with: photo-enhanc"):
            require_deployment(2)
        runner = subprocess.Popen(
            [sys.executable, "-m", "tests.flows.served_rounds"],
            env={**server.environment, "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONPATH": str(Path.cwd())},
        )
        try:
            wait(_deployed, "the deployment")
            require_deployment(2)
            yield server
        finally:
            runner.terminate()
            runner.wait(30)


def _deployed() -> bool:
    try:
        require_deployment(2)
    except ConfigError:
        return False
    return True


def rounds(folder: Path, *reasons: str) -> list[dict[str, Any]]:
    return [{"workspace": str(folder), "number": number, "reason": why} for number, why in enumerate(reasons)]


def runs_of(folder: Path) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["round"])))
    return [run for run in found if run.parameters["workspace"] == str(folder)]


@flow(retries=1, name="loop")
def loop(folder: Path) -> None:
    """Started again after its rounds ended, it starts none anew."""
    run_rounds(rounds(folder, "runs", "runs"), ["one", "two"])
    ATTEMPTS.append(1)
    if len(ATTEMPTS) == 1:
        raise RuntimeError("killed")


def test_rounds_run_beside_each_other_and_once(served: PrefectServer, tmp_path: Path) -> None:
    with using(served):
        loop(tmp_path)
        assert len(ATTEMPTS) == 2 and [run.state_name for run in runs_of(tmp_path)] == ["Completed"] * 2
    said = (tmp_path / "journal").read_text().split("\n")
    assert {*said[:2]} == {"start 0", "start 1"} and {*said[2:4]} == {"end 0", "end 1"}


def test_a_round_that_fails_is_named_after_the_others_ended(served: PrefectServer, tmp_path: Path) -> None:
    with using(served), pytest.raises(TrainingError, match=r"1 of 3 rounds did not complete .*: no photographs"):
        run_rounds(rounds(tmp_path, "runs", "fails", "runs"), ["a", "b", "c"])
    assert "end 0" in (tmp_path / "journal").read_text() and "end 2" in (tmp_path / "journal").read_text()


@flow(retries=1, name="hopeful loop")
def hopeful_loop(folder: Path) -> None:
    """A person mends the cause and presses Retry."""
    run_rounds(rounds(folder, "fails"), ["g"])


def test_a_round_that_failed_is_run_anew_when_its_loop_is_tried_again(served: PrefectServer, tmp_path: Path) -> None:
    with using(served):
        with pytest.raises(TrainingError):
            hopeful_loop(tmp_path)
        assert [run.state_name for run in runs_of(tmp_path)] == ["Failed"] * 2


def test_a_crashed_round_is_waited_for_as_an_automation_may_start_it_again(
    served: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_again() -> None:
        with using(served), get_client(sync_client=True) as client:
            wait(lambda: any(run.state_name == "Crashed" for run in runs_of(tmp_path)), "the crash")
            (crashed,) = (run for run in runs_of(tmp_path) if run.state_name == "Crashed")
            client.set_flow_run_state(crashed.id, Scheduled(name="AwaitingRetry"))

    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.2)
    automation = threading.Thread(target=start_again)
    automation.start()
    with using(served):
        run_rounds(rounds(tmp_path, "runs", "dies"), ["a", "b"])
    automation.join()
    assert (tmp_path / "journal").read_text().count("start 1") == 2
    monkeypatch.setattr(parallel, "CRASH_PATIENCE", 0.5)
    with using(served), pytest.raises(TrainingError, match="Crashed"):
        run_rounds(rounds(tmp_path, "runs", "dies"), ["c", "d"])


@flow(name="cancelled loop")
def cancelled_loop(folder: Path) -> None:
    """A person cancels it while its rounds run."""
    from prefect.runtime import flow_run

    def interrupt(_: float) -> None:
        if (folder / "journal").exists() and (folder / "journal").read_text().count("start") == 2:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run.id, Cancelling())
            raise KeyboardInterrupt
        time.sleep(0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
        run_rounds(rounds(folder, "hangs", "hangs"), ["e", "f"])


def test_rounds_are_cancelled_with_their_loop(served: PrefectServer, tmp_path: Path) -> None:
    with using(served):
        with pytest.raises(KeyboardInterrupt):
            cancelled_loop(tmp_path)
        wait(lambda: {run.state_name for run in runs_of(tmp_path)} == {"Cancelled"}, "their end")
    assert "end" not in (tmp_path / "journal").read_text()


def test_more_than_one_at_once_needs_a_server_that_stays() -> None:
    require_deployment(1)
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(ConfigError, match=r"or set tuning\.parallel=1"):
        require_deployment(2)
