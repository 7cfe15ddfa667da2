"""The Kubernetes files: by Kubernetes' own schema, by Prefect's template engine, and by a Prefect server."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values

FOLDER = Path(__file__).parents[2] / "deployments"
VERSION = "1.30"


def _template() -> dict[str, Any]:
    return json.loads((FOLDER / "kubernetes-job-template.json").read_text(encoding="utf-8"))


def _job(**chosen: Any) -> dict[str, Any]:
    """The job that a worker makes: defaults and choices put in; env and command are lists by then."""
    template = _template()
    values = {key: one.get("default") for key, one in template["variables"]["properties"].items()} | chosen
    jsonschema.validate(values, template["variables"])
    env = [{"name": name, "value": value} for name, value in values["env"].items()]
    values |= {"env": env, "command": ["prefect", "flow-run", "execute"], "name": "round-1"}
    job: dict[str, Any] = apply_values(template["job_configuration"]["job_manifest"], values)
    return job


def test_a_job_is_one_that_kubernetes_takes() -> None:
    job = _job(gpus=2, node_selector={"gpu": "h200"})
    kubernetes_validate.validate(job, VERSION, strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2 and pod["nodeSelector"] == {"gpu": "h200"}
    assert job["spec"]["backoffLimit"] == 0, "Prefect starts a crashed run again, not Kubernetes beside it"
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert volumes[mounts["/workspaces"]]["persistentVolumeClaim"]["claimName"] == "photo-enhancer-workspaces"
    image = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert "PHOTO_ENHANCER_ROOT=/workspaces " in image, "a deployment's own environment replaces the pool's"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job | {"spec": {**job["spec"], "backoff": 1}}, VERSION, strict=True)
    with pytest.raises(jsonschema.ValidationError):
        _job(gpus=-1)


@pytest.mark.usefixtures("prefect_server")
def test_a_server_takes_the_template() -> None:
    with get_client(sync_client=True) as client:
        pool = client.create_work_pool(
            WorkPoolCreate(name="on-kubernetes", type="kubernetes", base_job_template=_template())
        )
        assert client.read_work_pool("on-kubernetes").base_job_template == _template()
        assert pool.type == "kubernetes"
        client.delete_work_pool("on-kubernetes")


def test_the_worker_and_its_volumes_are_whole() -> None:
    parts = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")))
    for part in parts:
        kubernetes_validate.validate(part, VERSION, strict=True)
    claims = {part["metadata"]["name"] for part in parts if part["kind"] == "PersistentVolumeClaim"}
    properties = _template()["variables"]["properties"]
    assert claims == {properties["workspaces_claim"]["default"], properties["models_claim"]["default"]}
    (worker,) = (part for part in parts if part["kind"] == "Deployment")
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    secret = {one["name"]: one for one in container["env"]}["PREFECT_API_AUTH_STRING"]
    assert "value" not in secret and secret["valueFrom"]["secretKeyRef"]["name"] == "prefect-auth"
