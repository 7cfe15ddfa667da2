"""Serves the flows without work pools: the plain alternative to `photo-enhancer serve`, on a server that runs already.

    python -m deployments.serve

It runs each flow in a process of its own, started by spawn, which is why the main guard below must stay. Paths in the
forms are relative to the folder that it is started in.
"""

import os
from pathlib import Path

from prefect import serve

from deployments.automations import ensure_automations
from deployments.catalogue import RUN_SETTINGS, SERVED, deployment_of
from lora_core.storage.places import ROOT

RUNS = 10
"""At once; GPU slots see to it that each GPU has one process."""


def main() -> None:
    """Installs the automations, deploys, and runs what is asked for until it is ended."""
    os.environ.setdefault(ROOT, str(Path.cwd()))
    os.environ.update(RUN_SETTINGS)  # its runs inherit them; with rarer heartbeats they would count as dead
    ensure_automations()
    serve(*map(deployment_of, SERVED), limit=RUNS, pause_on_shutdown=False)


if __name__ == "__main__":
    main()
