"""An end to automatic restarts, and to what an earlier start of the same run left running."""

import logging
import os
import time
from contextlib import suppress
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Running

from lora_core.errors import TrainingError

RESTARTS = 20
_RUN = "PREFECT__FLOW_RUN_ID"
_REPORT_SECONDS = 10.0
"""So long after a death its worker may report it; shorter than the automations' rest."""

logger = logging.getLogger(__name__)


def refuse_endless_restarts() -> None:
    """Ends a flow run that crashed again and again: the automation that restarts crashed runs has no limit of its own.

    First it ends what an earlier start of the run left running on this host.

    Raises:
        TrainingError: the run was started more than `RESTARTS` times; it then ends as Failed, which nothing restarts.
    """
    end_earlier_start()
    if (started := flow_run.run_count or 0) > RESTARTS:
        raise TrainingError(
            f"started {started} times without reaching its end; its log says why: mend that, then start a new run"
        )


def end_earlier_start(report_seconds: float = _REPORT_SECONDS) -> int:
    """Ends other processes of this run on this host, with their descendants; returns how many there were.

    A run that was taken for dead, on a machine that slept say, is started again beside its living process. That one
    has lost its GPU slot; two must not write one folder. Killed, it reports nothing, but its worker may call the run
    crashed, which from now on is this process's.

    Args:
        report_seconds: so long after an end, or a report, another report is waited for.
    """
    run = os.environ.get(_RUN)
    if run is None or run != flow_run.id:  # not served, or called by a flow that is
        return 0
    others = _strangers(run)
    for process in others:
        with suppress(psutil.Error):
            process.kill()
    if others:
        psutil.wait_procs(others, timeout=30)
        logger.warning("Ended %d processes that an earlier start of this run had left", len(others))
        _stay_running(UUID(run), report_seconds)
    return len(others)


def run_of(process: psutil.Process) -> str | None:
    """The id of the flow run that a process belongs to; None where it is of none, or does not say."""
    try:
        return process.environ().get(_RUN)
    except (psutil.Error, OSError):  # gone, or somebody else's
        return None


def _strangers(run: str) -> list[psutil.Process]:
    """The processes of the run that are not of this process's family, and their descendants."""
    me = psutil.Process()
    oldest = next((one for one in reversed(me.parents()) if run_of(one) == run), me)
    family = {me.pid, oldest.pid, *(one.pid for one in oldest.children(recursive=True))}
    family |= {one.pid for one in me.parents()}
    found = set()
    for process in psutil.process_iter():
        if process.pid not in family and run_of(process) == run:
            found.add(process)
            with suppress(psutil.Error):
                found.update(process.children(recursive=True))
    return [process for process in found if process.pid not in family]


def _stay_running(run: UUID, report_seconds: float) -> None:
    """Sets the run's state to Running again whenever it is called crashed, until no report came for a while."""
    until = time.monotonic() + report_seconds
    while time.monotonic() < until:
        with suppress(Exception), get_client(sync_client=True) as client:  # a server that is away hears no report
            state = client.read_flow_run(run).state
            if state is not None and state.is_crashed():
                client.set_flow_run_state(run, Running(), force=True)
                until = time.monotonic() + report_seconds
        time.sleep(0.5)
