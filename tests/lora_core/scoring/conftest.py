"""Workspaces of a small round, and a count of what is scored."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_core.scoring import scorer
from lora_core.workspace import StudyFolder, Workspace
from tests.lora_core.scoring.small_round import write_round


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after its sweep; tests get copies, because every whole file waits for the disk."""
    root = tmp_path_factory.mktemp("swept")
    write_round(root)
    return root


@pytest.fixture
def workspace(swept: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(swept, tmp_path / "workspace")))


@pytest.fixture
def study(workspace: Workspace) -> StudyFolder:
    return workspace.study("small")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with every picture that is scored."""
    calls: list[None] = []
    real = scorer.score_pair

    def counted(*arguments: Any) -> dict[str, float]:
        calls.append(None)
        return real(*arguments)

    monkeypatch.setattr(scorer, "score_pair", counted)
    return calls
