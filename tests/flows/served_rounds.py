"""Serves a stand-in for the deployment round/round: `python -m tests.flows.served_rounds JOURNAL`.

It writes when it starts and ends. The round that "reason" says is to die is killed at its first start; one that is to
hang waits to be cancelled; one that is to fail fails.
"""

import os
import signal
import time
from pathlib import Path

from prefect import flow, serve
from prefect.runtime import flow_run

from tests.waiting import wait


@flow(name="round")
def stand_in(workspace: Path, number: int, reason: str, changes: tuple[str, ...] = ()) -> None:
    """As `flows.round.round_flow`, without a round."""
    journal = workspace / "journal"

    def tell(what: str) -> None:
        with journal.open("a") as file:
            file.write(f"{what} {number}\n")

    tell("start")
    if reason == "dies" and flow_run.run_count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if reason == "fails":
        raise RuntimeError("no photographs")
    if reason == "hangs":
        time.sleep(600)
    wait(lambda: journal.read_text().count("start") >= 2, "another round")  # ends only beside another one
    tell("end")


if __name__ == "__main__":
    serve(stand_in.to_deployment(name="round"), limit=4, pause_on_shutdown=False)
