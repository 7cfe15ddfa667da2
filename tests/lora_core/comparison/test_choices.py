"""Files of choices that do not belong, by name, and what must happen to those that do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_core.comparison.choices import fold_choices
from lora_core.comparison.page import write_comparison
from lora_core.comparison.plan import Plan, read_plans
from lora_core.errors import DataError
from lora_core.experiment import with_values
from lora_core.files import read_json, write_json
from lora_core.judging import read_judgements
from lora_core.workspace import Workspace
from tests.report_study import Study, make_study

Choices = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> tuple[Study, Plan]:
    study = make_study(tmp_path_factory.mktemp("study"), photos, rounds=1, limit=4)
    write_comparison(study.workspace, study.experiment, "base", 3)
    (plan,) = read_plans(study.workspace.study("study"))
    return study, plan


def choices_of(plan: Plan, session: str = "ab" * 16) -> Choices:
    """As the page writes them: every photograph goes to the winner."""
    chosen = [{"pair": pair.token, "choice": pair.winner} for pair in plan.pairs]
    return {
        "page": plan.page, "experiment": plan.experiment, "round": plan.round, "session": session, "choices": chosen
    }  # fmt: skip


def _edit_token(choices: Choices) -> None:
    choices["choices"][1]["choice"] = choices["choices"][0]["choice"]


def _edit_pair(choices: Choices) -> None:
    choices["choices"][1]["pair"] = "0" * 20


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_edit_token, "is no choice in comparison .*the file was edited"),
        (_edit_pair, "no comparison of this page is called 00000000000000000000; the file was edited"),
        (lambda it: it["choices"].append(it["choices"][0]), "is answered twice; the file was edited"),
        (lambda it: it.update(page="f" * 64), "comes from a page that was not made here"),
        (lambda it: it.update(experiment="holiday"), "judges the experiment holiday, this one is study"),
        (lambda it: it.update(round=7), "says round 7, but its page judges round 0; it was edited"),
        (lambda it: it.update(session="../../x"), "not a file of choices .*session"),
        (lambda it: it.update(choices=[]), "not a file of choices .*choices"),
        (lambda it: it.update(winner="me"), "not a file of choices .*winner"),
        (lambda it: it.pop("page"), "not a file of choices .*page"),
        (lambda it: it["choices"][0].update(choice=1), r"not a file of choices .*choices\.0\.choice"),
    ],
)
def test_choices_that_do_not_belong_are_refused_by_name(
    made: tuple[Study, Plan], tmp_path: Path, spoil: Callable[[Choices], object], message: str
) -> None:
    study, plan = made
    choices = choices_of(plan)
    spoil(choices)
    path = tmp_path / "choices.json"
    write_json(path, choices)
    with pytest.raises(DataError, match=message):
        fold_choices(study.workspace, study.experiment, path)
    assert not study.workspace.study("study").judgements.exists()


@pytest.mark.parametrize("text", ["", "[]", "3", '{"page"', "\x00"])
def test_files_that_are_no_choices_are_refused(made: tuple[Study, Plan], tmp_path: Path, text: str) -> None:
    study, _ = made
    path = tmp_path / "choices.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"choices\.json"):
        fold_choices(study.workspace, study.experiment, path)


def _copy(study: Study, root: Path) -> Workspace:
    shutil.copytree(study.workspace.root, root)
    return Workspace(root)


def test_a_round_that_was_run_again_is_not_judged_by_old_choices(made: tuple[Study, Plan], tmp_path: Path) -> None:
    study, plan = made
    workspace = _copy(study, tmp_path / "copy")
    manifest = workspace.study("study").round(0).result
    write_json(manifest, read_json(manifest) | {"digest": "c4" * 32})
    path = tmp_path / "choices.json"
    write_json(path, choices_of(plan))
    with pytest.raises(DataError, match="judges an earlier run of round 0"):
        fold_choices(workspace, study.experiment, path)


def test_choices_of_another_study_are_refused_even_under_its_name(made: tuple[Study, Plan], tmp_path: Path) -> None:
    study, plan = made
    workspace = _copy(study, tmp_path / "copy")
    (workspace.output / "study").rename(workspace.output / "holiday")
    shutil.rmtree(workspace.output / "holiday" / "comparisons")
    path = tmp_path / "choices.json"
    write_json(path, choices_of(plan) | {"experiment": "holiday"})
    with pytest.raises(DataError, match="not made here"):
        fold_choices(workspace, with_values(study.experiment, {"name": "holiday"}), path)


def test_a_judgement_is_stored_once_whole_and_never_shrinks(made: tuple[Study, Plan], tmp_path: Path) -> None:
    study, plan = made
    workspace = _copy(study, tmp_path / "copy")
    folder, path = workspace.study("study"), tmp_path / "choices.json"
    write_json(path, choices_of(plan))
    first, new = fold_choices(workspace, study.experiment, path)
    again, known = fold_choices(workspace, study.experiment, path)
    assert (new, known, first) == (True, False, again)
    assert [file.name for file in folder.judgements.iterdir()] == [f"{first.digest}.json"]
    assert set(first.outcomes.values()) == {"win"} and first.asked == 3
    fewer = choices_of(plan)
    del fewer["choices"][0]
    write_json(path, fewer)
    with pytest.raises(DataError, match="already holds 3 choices of the same judge on this page, these are 2"):
        fold_choices(workspace, study.experiment, path)
    write_json(path, choices_of(plan, "cd" * 16))
    fold_choices(workspace, study.experiment, path)
    assert len(read_judgements(folder)) == 2


def test_damaged_keys_and_judgements_are_named(made: tuple[Study, Plan], tmp_path: Path) -> None:
    study, plan = made
    workspace = _copy(study, tmp_path / "copy")
    folder, path = workspace.study("study"), tmp_path / "choices.json"
    write_json(path, choices_of(plan))
    write_json(folder.judgements / "old.json", {"page": "x"})
    with pytest.raises(DataError, match=r"old\.json is not a judgement of this version"):
        fold_choices(workspace, study.experiment, path)
    key = next(folder.comparisons.glob("*.json"))
    key.write_text(json.dumps({"page": plan.page}))
    with pytest.raises(DataError, match="is not the key to a comparison"):
        fold_choices(workspace, study.experiment, path)
