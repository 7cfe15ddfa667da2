"""Serves the flows as deployments, so that they can be started from the Prefect UI or on a schedule.

    python deployments/serve.py

Needs a server that stays (`prefect server start`, and PREFECT_API_URL as in .env.example). Runs one flow at a time: one
GPU. Each run is a process of its own, started by spawn, which is why the main guard below must stay.
"""

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.demo import demo_flow
from flows.init import init_flow
from flows.prepare import prepare_flow
from flows.pretrain import pretrain_flow
from flows.report import report_flow
from flows.round import round_flow
from flows.tuning import tuning_flow

FLOWS = (init_flow, prepare_flow, round_flow, tuning_flow, report_flow, pretrain_flow, demo_flow)


def deployments() -> list[RunnerDeployment]:
    """A deployment a flow, named after it."""
    return [flow.to_deployment(name=flow.name, tags=["photo-enhancer"]) for flow in FLOWS]


if __name__ == "__main__":
    serve(*deployments(), limit=1, pause_on_shutdown=False)
