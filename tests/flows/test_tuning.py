"""The loop waits for the digest that a round really has, whatever its changes add to the photographs."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import tuning
from flows.parameters import settle
from lora_core.images import list_photos
from lora_core.preparation import prepare
from lora_core.rounds import begin_round
from lora_core.tuning.study import Proposal
from tests.small_round import make_workspace

ROUNDS: list[dict[str, Any]] = [{}, {"objective.prior_images": 2}, {"data.captions": "files"}]


def test_a_round_whose_changes_add_photographs_or_captions_is_its_own(
    tmp_path: Path, miniature: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "work", miniature, photos)
    (prior := workspace.prior / "1_photo").mkdir(parents=True)
    for path in list_photos(photos)[:2]:
        shutil.copy(path, prior / f"prior {path.name}")
    for path in workspace.train.rglob("*.png"):
        path.with_suffix(".txt").write_text(f"a picture of {path.stem}")
    for path in prior.iterdir():
        path.with_suffix(".txt").write_text("a picture")
    digests: list[str] = []

    def run(
        workspace: Path, overrides: tuple[str, ...], number: int, changes: tuple[str, ...], **_: Any
    ) -> dict[str, Any]:
        place, plan = settle(workspace, None, None, (*overrides, *changes))
        digests.append(begin_round(place, plan, number))
        return {"round": number, "digest": digests[-1], "advice": []}

    steps = {
        "prepare": lambda place, plan, _: prepare(place, plan),
        "propose": lambda _, __, number, ___: Proposal(number, number, ROUNDS[number], "asked for"),
        "expected_costs": lambda *_: [],
        "round_flow": run,
        "why_stop": lambda _, __, results: "done" if len(results) == len(ROUNDS) else None,
        **{name: lambda *_: None for name in ("recall", "record", "crown", "report")},
    }
    for name, step in steps.items():
        monkeypatch.setattr(tuning, name, step)
    monkeypatch.setattr(tuning, "logger", SimpleNamespace(info=lambda *_: None))
    assert tuning.tuning_flow.fn(workspace.root) == {"rounds": 3, "stopped": "done"}
    assert len(digests) == len(set(digests)) == 3, "each round ran once"
