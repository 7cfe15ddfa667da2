"""The compose file: by its schema, by what it must not hold, and by starting the same commands by hand."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import check_jsonschema
import jsonschema
import pytest
import yaml

from tests.postgres import free_port, postgres_server
from tests.waiting import wait

FOLDER = Path(__file__).parents[2] / "deployments"
SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
PROGRAMS = {
    "photo-enhancer": ["-m", "deployments.cli"],
    "prefect": ["-m", "prefect"],
    "python": [],
    "tensorboard": ["-m", "tensorboard.main"],
}
SECRETS = {"PREFECT_AUTH": "admin:sesame", "POSTGRES_PASSWORD": "sesame"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _compose() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def _filled(value: Any, values: dict[str, str]) -> Any:
    """The value as compose puts variables in."""
    if isinstance(value, dict):
        return {key: _filled(one, values) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: values.get(found[1]) or (found[3] if found[2] == "-" else ""), value)


def test_it_keeps_to_the_specification() -> None:
    jsonschema.validate(_compose(), json.loads(SCHEMA.read_text(encoding="utf-8")))
    broken = _compose()
    broken["services"]["pages"]["comand"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate(broken, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_it_holds_no_secret_and_asks_for_those_it_needs() -> None:
    services = _compose()["services"]
    secret = re.compile("PASSWORD|AUTH_STRING|TOKEN|KEY|SECRET")
    held = {
        (name, key): str(value)
        for name, service in services.items()
        for key, value in service.get("environment", {}).items()
        if secret.search(key)
    }
    assert ("server", "PREFECT_SERVER_API_AUTH_STRING") in held and ("database", "POSTGRES_PASSWORD") in held
    for place, value in held.items():
        assert VARIABLE.fullmatch(value), place
    needed = {found[1] for value in held.values() if (found := VARIABLE.fullmatch(value)) and found[2] == "?"}
    assert needed == set(SECRETS)
    assert (
        services["worker"]["environment"]["PREFECT_API_AUTH_STRING"] == held["server", "PREFECT_SERVER_API_AUTH_STRING"]
    )


def test_nothing_is_open_to_the_network_and_nothing_runs_as_root() -> None:
    composed = _compose()
    for name, service in composed["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["restart"] == "unless-stopped"
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service and "docker.sock" not in str(service.get("volumes", "")), name
    assert composed["networks"]["database"]["internal"] and composed["services"]["database"]["networks"] == ["database"]
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE) == ["photo"]
    assert "--require-hashes" in dockerfile and not re.search("PASSWORD|AUTH|TOKEN", dockerfile)


def test_the_image_gets_what_it_needs_and_nothing_of_the_user() -> None:
    ignored = (FOLDER.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert {f"!{name}" for name in names} == {line for line in ignored if line.startswith("!")}
    assert all((FOLDER.parent / name).exists() for name in names)
    assert "**/.env" in ignored


@dataclass
class Running:
    """A service's command as a process here."""

    service: dict[str, Any]
    home: Path
    port: int
    child: "subprocess.Popen[bytes]"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until_healthy(self) -> str:
        """Waits as compose does, by the service's own health check."""
        check = [re.sub(":420[0-9]/", f":{self.port}/", word) for word in self.service["healthcheck"]["test"][2:]]
        self.until(lambda: subprocess.run([sys.executable, *check], capture_output=True).returncode == 0)
        return self.address

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits as long as it runs."""

        def there() -> bool:
            assert self.child.poll() is None, self.log[-3000:]
            return reached()

        wait(there, f"the start of {self.service['command']}", 120, every=0.3)


@contextmanager
def _running(service: dict[str, Any], home: Path, **environment: str) -> Iterator[Running]:
    """Port, host and folder are this machine's, the rest is as the file says."""
    home.mkdir()
    program, *rest = service["command"]
    port = free_port()
    places = {"0.0.0.0": "127.0.0.1", "/workspaces": str(home), "4200": str(port), "4201": str(port), "4202": str(port)}
    command = [sys.executable, *PROGRAMS[program], *(places.get(word, word) for word in rest)]
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PHOTO_ENHANCER_"))}
    own |= {"PYTHONPATH": str(FOLDER.parent), "PREFECT_HOME": str(home / "prefect")}
    named = {**own, **service.get("environment", {}), **environment}
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(command, env=named, stdout=log, stderr=log, start_new_session=True, cwd=home)
    try:
        yield Running(service, home, port, child)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _ask(address: str, auth: str = "", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json", **headers})
    if auth:
        request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.skipif(sys.platform == "win32", reason="the containers are Linux")
def test_the_same_commands_run_by_hand_and_answer_those_who_may(tmp_path: Path) -> None:
    services = _filled(_compose()["services"], SECRETS)
    with (
        postgres_server() as database,
        _running(services["server"], tmp_path / "server", **_place_of(database)) as server,
        _running(services["pages"], tmp_path / "pages") as pages,
        _running(services["tensorboard"], tmp_path / "tensorboard") as tensorboard,
    ):
        home_page = _ask(pages.until_healthy())[1].decode()
        assert "No workspace yet" in home_page and services["pages"]["environment"]["PREFECT_UI_URL"] in home_page
        _only_those_who_may(server.until_healthy(), SECRETS["PREFECT_AUTH"])
        assert not (tmp_path / "server" / "prefect" / "prefect.db").exists(), "it is PostgreSQL that it uses"
        _a_worker_sets_it_up(services["worker"], tmp_path / "worker", server.address)
        assert b"TensorBoard" in _ask(tensorboard.until_healthy())[1]


def _place_of(database: str) -> dict[str, str]:
    place = urlsplit(database)
    where = {"HOST": place.hostname, "PORT": place.port, "USER": place.username, "NAME": place.path[1:]}
    return {f"PREFECT_SERVER_DATABASE_{key}": str(value) for key, value in where.items()}


def _only_those_who_may(server: str, auth: str) -> None:
    flows = f"{server}/api/flows/filter"
    assert _ask(f"{server}/api/health")[0] == 200
    version = f"{server}/api/admin/version"
    assert [_ask(version, who)[0] for who in ("", "admin:wrong", auth)] == [401, 401, 200]
    assert _ask(flows, auth, b"{}")[0] == 403, "no token: another web site must not use a browser's password"
    token = json.loads(_ask(f"{server}/api/csrf-token?client=test", auth)[1])["token"]
    allowed = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
    assert _ask(flows, auth, b"{}", **allowed) == (200, b"[]")
    request = urllib.request.Request(f"{server}/api/health", headers={"Origin": "http://evil.example"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


def _a_worker_sets_it_up(worker: dict[str, Any], home: Path, server: str) -> None:
    """The worker's own command puts everything on the server, with the password, and runs."""
    with _running(worker, home, PREFECT_API_URL=f"{server}/api") as running:
        running.until(lambda: "In another terminal" in running.log)  # all is up
        auth = SECRETS["PREFECT_AUTH"]
        token = json.loads(_ask(f"{server}/api/csrf-token?client=test", auth)[1])["token"]
        allowed = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
        workers = _ask(f"{server}/api/work_pools/photo-enhancer-gpu/workers/filter", auth, b"{}", **allowed)[1]
        found = _ask(f"{server}/api/deployments/filter", auth, b"{}", **allowed)[1]
        assert [one["status"] for one in json.loads(workers)] == ["ONLINE"]
        assert {"tuning", "round", "promote"} <= {one["name"] for one in json.loads(found)}
        assert "sesame" not in running.log
