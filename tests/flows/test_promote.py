"""A person decides: a real run of a deployment on a real server suspends, is answered, and does what was said."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Scheduled

from deployments.catalogue import catalogue, deploy
from deployments.pools import POOLS, ensure_pools
from flows.promote import promote_flow
from lora_core.errors import ConfigError
from lora_core.promotion.decisions import read_decisions
from tasks.champion import crown
from tests.promotion_study import make_candidate
from tests.report_study import Study

Execute = Callable[[UUID, SyncPrefectClient], str]


@pytest.fixture(scope="module")
def tuning(prefect_server: None) -> Iterator[UUID]:
    """Id of the deployment that another try is a run of; promotion is deployed too. The server is others' as well."""
    ensure_pools(1)
    deploy([one for one in catalogue() if one.name in ("promote", "tuning")])
    with get_client(sync_client=True) as client:
        ids = [client.read_deployment_by_name(name).id for name in ("promote/promote", "tuning/tuning")]
        yield ids[1]
        for one in ids:
            client.delete_deployment(one)
        for pool in POOLS:
            client.delete_work_pool(pool)


@pytest.fixture
def client(tuning: UUID) -> SyncPrefectClient:
    return get_client(sync_client=True)


def start(study: Study) -> UUID:
    run = run_deployment("promote/promote", parameters={"workspace": str(study.workspace.root)}, timeout=0)
    assert isinstance(run, FlowRun)
    return run.id


def execute(run: UUID, client: SyncPrefectClient) -> str:
    """What a worker does with a scheduled run: a process of its own, to its end. Returns the state's name."""
    root = client.read_flow_run(run).parameters["workspace"]
    here = {"PHOTO_ENHANCER_ROOT": root, "PYTHONPATH": str(Path(__file__).parents[2])}
    server = get_current_settings().to_environment_variables(exclude_unset=True, include_secrets=True)
    command = [sys.executable, "-m", "prefect", "flow-run", "execute", str(run)]
    done = subprocess.run(command, env={**os.environ, **server, **here}, capture_output=True, text=True)
    sys.stderr.write(done.stderr)  # shown where the test fails
    state = client.read_flow_run(run).state
    assert state is not None and state.name is not None
    return state.name


def execute_here(run: UUID, client: SyncPrefectClient) -> str:
    """The same in this process, for speed."""
    found = client.read_flow_run(run)
    with suppress(Pause):
        run_flow(promote_flow, flow_run=found, parameters=found.parameters, return_type="state")
    state = client.read_flow_run(run).state
    assert state is not None and state.name is not None
    return state.name


def question(run: UUID, client: SyncPrefectClient) -> tuple[str, dict[str, Any]]:
    """The text above the open form, and its fields."""
    state = client.read_flow_run(run).state
    assert state is not None and state.state_details.run_input_keyset is not None
    keys = state.state_details.run_input_keyset
    said, schema = (json.loads(client.read_flow_run_input(run, keys[part])) for part in ("description", "schema"))
    return said, schema["properties"]


def answer(run: UUID, client: SyncPrefectClient, *, execute: Execute = execute_here, **fields: Any) -> str:
    resume_flow_run(run, run_input=fields)
    return execute(run, client)


def test_it_asks_until_the_answer_holds_and_promotes_what_is_approved(
    challenger: Study, photos: Path, client: SyncPrefectClient
) -> None:
    place, study = challenger.workspace, challenger.workspace.study("challenger")
    run = start(challenger)
    assert execute(run, client) == "Suspended"
    said, fields = question(run, client)
    assert "Shall round 0 of challenger become the champion?" in said and str(study.report) in said
    assert (
        "| Champion | +" in said and "the champion (round 0 of weak)" in said and "better on 6 of 6 photographs" in said
    )
    assert fields["decision"]["enum"] == ["approve", "reject", "try again"]
    assert [fields[name]["position"] for name in ("decision", "note", "overrides")] == [0, 1, 2]

    assert answer(run, client, decision="try again", note="softer", overrides=["training.epoch=30"]) == "Suspended"
    said, fields = question(run, client)
    assert "Not taken:" in said and "did you mean 'training.epochs'?" in said
    assert (fields["note"]["default"], fields["overrides"]["default"]) == ("softer", ["training.epoch=30"])
    assert "stays with the study" in fields["note"]["description"] and fields["note"]["position"] == 1

    make_candidate(place.root, photos, "challenger", rounds=2)  # a better one, while the form is open
    assert answer(run, client, decision="approve", note="yes", overrides=[]) == "Suspended"
    said, _ = question(run, client)
    assert "changed while the form was open" in said and "Shall round 1 of challenger" in said
    assert not read_decisions(study) and place.champion.name.startswith("0001-")

    approval = {"decision": "approve", "note": "the grain stays", "overrides": []}
    assert answer(run, client, execute=execute, **approval) == "Completed"
    (decision,) = read_decisions(study)
    assert (decision.choice, decision.round, decision.run) == ("approve", 1, str(run))
    assert place.champion.name.startswith("0002-")
    assert json.loads((place.champion / "promotion.json").read_text())["note"] == "the grain stays"
    assert "the grain stays" in study.report.read_text(encoding="utf-8")


def test_another_try_is_started_once_however_often_the_run_is(
    challenger: Study, client: SyncPrefectClient, tuning: UUID
) -> None:
    place, study = challenger.workspace, challenger.workspace.study("challenger")
    run = start(challenger)
    assert execute_here(run, client) == "Suspended"
    assert answer(run, client, decision="try again", note="more", overrides=["training.epochs=30"]) == "Completed"
    # As the automation does it with a run that was killed after it had done everything.
    client.set_flow_run_state(run, Scheduled(name="AwaitingRetry"), force=True)
    assert execute_here(run, client) == "Completed"
    (decision,) = read_decisions(study)
    tries = client.read_flow_runs(flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[tuning])))
    assert [one.parameters for one in tries] == [
        {
            "workspace": str(place.root),
            "overrides": ["training.epochs=30", "name=challenger-again-2"],
            "promotion": "ask",
        }
    ]
    assert decision.overrides == ("training.epochs=30", "name=challenger-again-2")
    assert place.champion.name.startswith("0001-")


def test_a_study_that_asks_starts_one_run_for_one_candidate(
    challenger: Study, client: SyncPrefectClient, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"workspace": challenger.workspace.root, "experiment": None, "preset": None, "overrides": ("name=a",)}
    with temporary_settings({PREFECT_API_URL: None}), caplog.at_level("INFO", "tasks.champion"):
        crown.fn(challenger.workspace, challenger.experiment, "ask", said)
    assert f"Decide with: photo-enhancer promote {said['workspace']} --set name=a" in caplog.text
    for _ in range(2):
        assert "waits for a decision" in crown.fn(challenger.workspace, challenger.experiment, "ask", said)
    (run,) = [
        one for one in client.read_flow_runs(limit=200) if one.parameters.get("workspace") == str(said["workspace"])
    ]
    assert run.state is not None and run.state.is_scheduled()
    client.delete_flow_run(run.id)


@pytest.mark.usefixtures("prefect_server")
def test_called_by_hand_it_names_the_command(challenger: Study) -> None:
    root = challenger.workspace.root
    with pytest.raises(ConfigError, match=rf"photo-enhancer promote {root} --set name=challenger"):
        promote_flow(root, overrides=("name=challenger",))
    assert not read_decisions(challenger.workspace.study("challenger"))
