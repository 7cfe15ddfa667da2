"""What the processes of `photo-enhancer serve` get from the caller, and what they get from us."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS, temporary_settings

from deployments.server import Server
from deployments.services import Layout, Wish


def test_the_callers_settings_go_before_our_defaults_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path, Server("http://127.0.0.1:4200/api"), Wish(no_tensorboard=True))
    required = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_SERVER_LOGGING_LEVEL": "WARNING"}
    defaults = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true"}
    for name in (*required, *defaults):
        monkeypatch.delenv(name, raising=False)
    alone = layout.environment()
    assert (required | defaults).items() <= alone.items()
    assert alone["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"
    assert "PHOTO_ENHANCER_PAGES" in alone and "PHOTO_ENHANCER_TENSORBOARD" not in alone
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "600")
    monkeypatch.setenv("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "7")
    with temporary_settings({PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS: "http://mine"}):  # by an older name, say
        given = layout.environment()
    ours = {"PREFECT_WORKER_QUERY_SECONDS", "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"}
    assert given == {name: value for name, value in alone.items() if name not in ours}
