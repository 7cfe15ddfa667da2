"""`photo-enhancer compare` and `judge` as a person gives them."""

import json
from pathlib import Path

import pytest

from flows.cli import main
from lora_core.comparison.plan import read_plans
from lora_core.experiment import save_experiment
from lora_core.files import write_json
from tests.report_study import make_study


def test_a_comparison_is_made_judged_and_told_in_the_report(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, choices = tmp_path / "work", tmp_path / "choices.json"
    study = make_study(root, photos, rounds=1, limit=3)
    save_experiment(study.experiment, study.workspace.experiment)
    assert main(["compare", str(root), "--against", "base", "--photos", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 photographs: the winner of round 0 against the base model without a LoRA" in out
    (plan,) = read_plans(study.workspace.study("study"))
    answers = [{"pair": pair.token, "choice": pair.winner} for pair in plan.pairs]
    write_json(
        choices, {"page": plan.page, "experiment": "study", "round": 0, "session": "ab" * 16, "choices": answers}
    )
    told = "People preferred the best LoRA to the base model without a LoRA in 2 of 2 comparisons"
    for known in (False, True):
        assert main(["judge", str(root), str(choices), str(choices)]) == 0
        out = capsys.readouterr().out
        assert f"Round 0: {told}" in out and out.count("counted once") == (2 if known else 1)
    assert told in study.workspace.study("study").report.read_text(encoding="utf-8")
    write_json(choices, json.loads(choices.read_text()) | {"round": 3})
    assert main(["judge", str(root), str(choices)]) == 2
    assert "says round 3, but its page judges round 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "WORK", "--photos", "0"], "Invalid value for '--photos'"),
        (["compare", "WORK"], "experiment.yaml does not exist"),
        (["judge", "WORK"], "Missing argument 'CHOICES.json...'"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(tmp_path) if part == "WORK" else part for part in arguments]) == 2
    assert message in capsys.readouterr().err
