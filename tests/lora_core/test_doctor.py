"""The examination speaks where something is missing, and names the way out."""

import http.server
import threading
from importlib import metadata
from pathlib import Path

import pytest

from lora_core import doctor
from lora_core.preparation import create_workspace


def lines(checks: list[doctor.Check], status: str) -> str:
    return "\n".join(check.line for check in checks if check.status == status)


def test_this_installation_works(photos: Path, miniature: Path, tmp_path: Path) -> None:
    create_workspace(tmp_path / "w", "pocket", photos, assignments=[f"base.model={miniature}"])
    checks = doctor.examine(tmp_path / "w")
    assert not lines(checks, "fail")
    said = "\n".join(check.line for check in checks)
    assert "Python 3" in said and "torch" in said and "8 photographs" in said and "experiment 'pocket'" in said


@pytest.mark.parametrize(
    ("prefect", "fastapi", "status"),
    [
        ("3.8.8", "0.150.0", "ok"),
        ("3.8.8", "0.151.0", "fail"),
        ("3.8.3", "0.150.0", "fail"),
        ("4.0.0", "0.150.0", "fail"),
    ],
)
def test_versions_with_which_the_server_does_not_start(
    monkeypatch: pytest.MonkeyPatch, prefect: str, fastapi: str, status: str
) -> None:
    real = metadata.version
    versions = {"prefect": prefect, "fastapi": fastapi}
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))
    found = [check for check in doctor.examine() if "FastAPI" in check.says]
    assert [check.status for check in found] == [status]
    assert status == "ok" or "fastapi<0.151" in found[0].remedy


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "missing: peft; pip install peft" in lines(doctor.examine(), "fail")


@pytest.mark.parametrize(("status", "expected"), [(200, "ok"), (401, "ok"), (500, "fail")])
def test_the_server_is_asked(status: int, expected: str) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/api"
        check = doctor.check_server(address)
        server.shutdown()
    assert check.status == expected and address in check.says
    assert doctor.check_server(address).status == "fail", "it is gone"


def test_a_workspace_that_is_none(tmp_path: Path) -> None:
    assert "cannot read the experiment" in lines(doctor.examine(tmp_path / "none"), "fail")
