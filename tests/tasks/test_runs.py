"""What a worker is told, and how long a server that is away is waited for."""

from pathlib import Path

import httpx
import pytest

from lora_core.storage.places import ROOT
from tasks import runs
from tasks.runs import patiently, portable


def test_paths_are_said_as_a_worker_below_its_root_understands_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {"workspace": Path("root/work"), "experiment": None, "overrides": ("a.b=1",), "number": 2, "prune": True}
    assert portable(said) == {
        "workspace": str(tmp_path.resolve() / "root" / "work"), "overrides": ["a.b=1"], "number": 2, "prune": True,
    }  # fmt: skip
    monkeypatch.setenv(ROOT, str(tmp_path / "root"))
    experiment = tmp_path / "elsewhere.yaml"
    assert portable({"workspace": "root/work", "experiment": experiment}) == {
        "workspace": "work", "experiment": str(experiment.resolve()),
    }  # fmt: skip
    assert portable({"workspace": "s3://bucket/work"}) == {"workspace": "s3://bucket/work"}


def test_a_server_that_starts_again_is_waited_for_and_one_that_is_gone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.0)
    calls: list[int] = []

    def away(times: int) -> str:
        calls.append(1)
        if len(calls) <= times:
            raise httpx.ConnectError("refused")
        return "there"

    assert patiently(lambda: away(3)) == "there" and len(calls) == 4
    monkeypatch.setattr(runs, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(httpx.ConnectError):
        patiently(lambda: away(99))
    with pytest.raises(KeyError):
        patiently(lambda: {}["no transport error"])
