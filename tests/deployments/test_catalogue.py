"""Every flow is served with a form that a person can fill in, and prefect.yaml says the same as the catalogue."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.states import Pending

import flows
from deployments.catalogue import (
    SERVED,
    Served,
    catalogue,
    deploy,
    deployment_of,
    description_of,
    missing_deployments,
)
from deployments.pools import ensure_pools
from lora_core.errors import TrainingError
from tasks.restarts import RESTARTS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deployments" / "prefect.yaml"


@pytest.fixture(scope="module")
def deployed(prefect_server: None) -> None:
    ensure_pools()
    deploy()


def test_every_flow_of_the_project_is_served() -> None:
    modules = Path(flows.__file__).parent.glob("*.py")
    assert {served.name for served in SERVED} == {
        path.stem for path in modules if f"def {path.stem}_flow(" in path.read_text(encoding="utf-8")
    }


@pytest.mark.parametrize("served", SERVED, ids=lambda served: served.name)
def test_form(served: Served) -> None:
    deployment = deployment_of(served)
    schema = deployment._parameter_openapi_schema
    assert sorted(field["position"] for field in schema.properties.values()) == list(range(len(schema.properties)))
    assert schema.definitions == {}, "a nested form"
    for name, field in schema.properties.items():
        assert field.get("description"), f"{name} has no description"
        choices = [field, *field.get("anyOf", [])]
        kinds = {choice["type"] for choice in choices if "type" in choice}
        assert kinds <= {"string", "integer", "number", "boolean", "array", "null"}, f"{name}: no form for {kinds}"
        if kinds & {"integer", "number"}:
            assert any("minimum" in choice or "exclusiveMinimum" in choice for choice in choices), (
                f"{name} has no bound"
            )
        if name == "preset":
            assert any("pocket" in choice.get("enum", []) for choice in choices)
    assert deployment.description and "Args:" not in deployment.description and "\n" not in deployment.description


def test_a_form_with_a_number_out_of_bounds_is_refused(deployed: None) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("round/round")
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            client.create_flow_run_from_deployment(deployment.id, parameters={"workspace": "work", "number": -1})
        client.create_flow_run_from_deployment(deployment.id, parameters={"workspace": "work", "number": 1})


@pytest.mark.parametrize("served", SERVED, ids=lambda served: served.name)
def test_every_flow_refuses_to_be_started_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(RESTARTS + 1))
    required = dict.fromkeys(served.flow.parameters.required, Path("nowhere"))
    with pytest.raises(TrainingError, match=f"started {RESTARTS + 1} times"):
        served.flow.fn(**required)


def test_deploying_again_keeps_what_a_person_set(deployed: None) -> None:
    assert missing_deployments() == []
    again = [deployment for deployment in catalogue() if deployment.name == "prepare"]
    with get_client(sync_client=True) as client:
        before = client.read_deployment_by_name("prepare/prepare")
        client.create_deployment_schedules(
            before.id, [(CronSchedule(cron="0 3 * * 0"), True)], parameters={"workspace": "work"}
        )
        client.pause_deployment(before.id)
    assert deploy(again) == []
    with get_client(sync_client=True) as client:
        after = client.read_deployment_by_name("prepare/prepare")
        assert [(one.schedule.cron, one.active, one.parameters) for one in after.schedules] == [
            ("0 3 * * 0", True, {"workspace": "work"})
        ]
        assert after.paused and after.id == before.id and after.pull_steps == [{"deployments.root.enter_root": {}}]
        client.resume_deployment(before.id)


def test_a_second_retraining_does_not_queue_up_behind_the_first(deployed: None) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/retrain")
        states = []
        for _ in range(2):
            run = client.create_flow_run_from_deployment(deployment.id, parameters={"workspace": "work"})
            client.set_flow_run_state(run.id, Pending())
            states.append(client.read_flow_run(run.id).state)
    assert [state.name for state in states] == ["Pending", "Cancelled"]


def test_prefect_yaml_says_the_same(deployed: None) -> None:
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert [one["name"] for one in written["deployments"]] == [served.name for served in SERVED]
    for entry, served in zip(written["deployments"], SERVED, strict=True):
        assert load_flow_from_entrypoint(entry["entrypoint"]).name == served.name
        assert entry["description"] == description_of(served.flow)
    expected = {served.name: stored(served.name) for served in SERVED}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    environment = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=FILE.parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {served.name: stored(served.name) for served in SERVED} == expected


def stored(name: str) -> dict[str, Any]:
    """What the server has of a deployment."""
    with get_client(sync_client=True) as client:
        one = client.read_deployment_by_name(f"{name}/{name}")
    limit = one.global_concurrency_limit and one.global_concurrency_limit.limit
    fields = {"version", "description", "tags", "entrypoint", "work_pool_name", "pull_steps", "job_variables", "path"}
    values = one.model_dump(mode="json", include={*fields, "parameter_openapi_schema", "concurrency_options"})
    return {**values, "limit": limit}
