"""`photo-enhancer promote`, `rollback` and `retrain` as a person gives them."""

import click
import pytest
from click.testing import CliRunner, Result

from deployments.promotion_commands import promote, rollback
from lora_core.promotion.decisions import read_decisions
from tests.report_study import Study


def run(command: click.Command, study: Study, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(study.workspace.root), *arguments], input=typed)


def test_the_numbers_are_shown_the_champion_promoted_and_brought_back(challenger: Study) -> None:
    place = challenger.workspace
    shown = run(promote, challenger)
    assert shown.exit_code == 2 and "no terminal to ask at" in shown.output and not read_decisions(place.study("x"))
    assert "Champion  " in shown.output and "better on 6 of 6 photographs" in shown.output
    shown = run(promote, challenger, "--approve", "--note", "sharper")
    assert f"The champion now: {place.champion / 'challenger.safetensors'}" in shown.output
    assert "sharper" in place.study("challenger").report.read_text(encoding="utf-8")
    assert "Round 0 of challenger is the champion: " in run(promote, challenger, "--approve").output
    assert len(read_decisions(place.study("challenger"))) == 1
    shown = run(promote, challenger, "--reject")
    assert shown.exit_code == 2 and f"photo-enhancer rollback {place.root}" in shown.output
    shown = run(rollback, challenger)
    assert f"is the champion again: {place.champion / 'weak.safetensors'}" in shown.output
    assert "* 0001-" in shown.output and "  0002-" in shown.output
    assert run(rollback, challenger, "--to", "2").exit_code == 0 and place.champion.name.startswith("0002-")
    assert "* 0002-" in run(rollback, challenger, "--list").output


def test_another_try_names_the_command_and_a_rejection_keeps_the_champion(challenger: Study) -> None:
    shown = run(promote, challenger, "--again", "training.epochs=30", "--note", "longer")
    wanted = f"tune {challenger.workspace.root} --set training.epochs=30 --set name=challenger-again-2 --promote ask"
    assert wanted in shown.output
    assert "Rejected; the champion stays." in run(promote, challenger, "--reject").output
    assert challenger.workspace.champion.name.startswith("0001-")
    made = [one.choice for one in read_decisions(challenger.workspace.study("challenger"))]
    assert made == ["try again", "reject"]
    assert "exclude each other" in run(promote, challenger, "--reject", "--again", "training.epochs=30").output
    assert "did you mean 'training.epochs'" in str(run(promote, challenger, "--again", "training.epoch=3").exception)


def test_at_a_terminal_it_asks(challenger: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.promotion_commands._at_a_terminal", lambda: True)
    shown = run(
        promote, challenger, typed="perhaps\ntry again\ndata.prompt='open\ntraining.epochs=30 adapter.rank=8\nlonger\n"
    )
    assert "'perhaps' is not one of" in shown.output and "No closing quotation" in shown.output
    assert "--set adapter.rank=8" in shown.output
    (decision,) = read_decisions(challenger.workspace.study("challenger"))
    assert (decision.note, decision.overrides[:2]) == ("longer", ("training.epochs=30", "adapter.rank=8"))
