"""The command line as a user meets it: help at once, errors in one line, nothing lost."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from lora_core import degradation
from lora_core.experiment import load_experiment, save_experiment, with_values
from lora_core.files import file_digest
from lora_core.images import list_photos, write_png
from lora_core.preparation import create_workspace, degrade_workspace
from lora_core.training import launch
from lora_core.workspace import Workspace
from tests.report_study import PRUNED, make_study

COMMANDS = ("init", "degrade", "train", "sweep", "score", "round", "tune", "report", "pretrain", "demo", "doctor")


def run_in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flows.cli", *arguments], capture_output=True, text=True)


@pytest.fixture(autouse=True)
def _terminal_of_its_own() -> Iterator[None]:
    """A command sets up environment and logging for the whole process, which here goes on."""
    environment = dict(os.environ)
    loggers = [logging.getLogger(name) for name in ("lora_core", "tasks", "flows")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    os.environ.clear()
    os.environ.update(environment)
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
def workspace(photos: Path, miniature: Path, tmp_path: Path) -> Workspace:
    """A prepared workspace on the miniature base, in a folder whose name has a space and is not ASCII."""
    root = tmp_path / "alte Fotos 照片"
    workspace = create_workspace(root, "pocket", photos, assignments=[f"base.model={miniature}"]).workspace
    degrade_workspace(workspace, load_experiment(workspace.experiment))
    return workspace


def test_a_study_whose_rounds_were_all_given_up_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, Path(), rounds=0, limit=0, pruned=2)
    save_experiment(study.experiment, study.workspace.experiment)
    monkeypatch.setattr("flows.cli._flow", lambda name: lambda **_: {"rounds": 2, "stopped": name})
    assert main(["tune", str(study.workspace.root)]) == 0
    printed = capsys.readouterr()
    assert f"Round 1 was given up early and has no scores: {PRUNED}" in printed.out
    assert str(study.workspace.study(study.experiment.name).report) in printed.out and not printed.err


def test_help_needs_neither_torch_nor_prefect() -> None:
    script = (
        "import sys\nfrom flows.cli import main\n"
        f"codes = [main([*command, '--help']) for command in ([], *([name] for name in {COMMANDS}))]\n"
        "heavy = [name for name in ('torch', 'prefect', 'polars', 'cv2', 'optuna') if name in sys.modules]\n"
        "sys.exit(f'{codes} {heavy}' if any(codes) or heavy else 0)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name in COMMANDS:
        assert f"  {name} " in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tune", "--resume", "--preset", "pocket"], 2, "output/pocket holds no study to resume; there is none"),
        (["tune", "nowhere"], 2, "nowhere/experiment.yaml does not exist; make a workspace with: photo-enhancer init"),
        (["tune", "--preset", "pokcet"], 2, "Invalid value for '--preset': 'pokcet'"),
        (["tune", "--preset", "pocket", "--set", "training.epoch=3"], 2, "did you mean 'training.epochs'?"),
        (["tune", "--preset", "pocket", "--set", "sweep.strengths=[0.1, 1.5]"], 2, "strengths: 1.5 is outside (0, 1]"),
        (["tune", "--preset", "pocket", "--set", "sweep.strengths=[0]"], 2, "strengths: 0.0 is outside (0, 1]"),
        (["tune", "--preset", "pocket", "--set", "training.epochs"], 2, "write section.key=value"),
        (["tune", "--preset", "pocket", "--experiment", "mine.yaml"], 2, "exclude each other"),
        (["degrade", "--from", "here"], 2, "--from and --to belong together"),
        (["degrade", "--preset", "medium"], 2, "--preset and --seed belong to --from"),
        (["score", "one", "two", "three"], 2, "give a workspace, or two folders"),
        (["score", "nowhere", "elsewhere"], 2, "is not a folder"),
        (["enhance"], 2, "No such command 'enhance'"),
    ],
)
def test_mistakes_that_cost_no_server(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert shown.err.startswith("photo-enhancer: error: ") and message in shown.err
    assert shown.err.count("\n") == 1 and not shown.out
    assert not list(tmp_path.iterdir())


def test_init_reports_what_it_did_and_what_it_left_out(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "broken.jpg").write_bytes(b"no image")
    shown = run_in_process("init", str(tmp_path / "my photos"), "--photos", str(source), "--set", "training.epochs=2")
    assert shown.returncode == 0 and "7 photographs to train on, 1 to score on" in shown.stdout
    assert f"photo-enhancer tune '{tmp_path}/my photos'" in shown.stdout
    assert shown.stderr.count("\n") == 1 and "broken.jpg: not an image file" in shown.stderr
    again = run_in_process("init", str(tmp_path / "my photos"), "--photos", str(source))
    assert again.returncode == 2 and "experiment.yaml exists" in again.stderr and "Traceback" not in again.stderr


def _surplus(workspace: Workspace) -> str:
    shutil.copy(list_photos(workspace.test)[0], workspace.degraded / "stranger.png")
    return "stranger.png has no clean photograph"


def _truncated(workspace: Workspace) -> str:
    victim = list_photos(workspace.targets)[1]
    victim.write_bytes(victim.read_bytes()[:100])
    return f"{victim}: "


def _empty(workspace: Workspace) -> str:
    for path in list_photos(workspace.targets):
        path.unlink()
    return "10_targets holds no photograph"


def _file_for_folder(workspace: Workspace) -> str:
    """As a folder without permission, and as true for root."""
    shutil.rmtree(workspace.output)
    workspace.output.write_text("in the way")
    return f"cannot write {workspace.output}"


def _no_base(workspace: Workspace) -> str:
    fake = workspace.models / "fake.safetensors"
    fake.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 not a header ")
    experiment = load_experiment(workspace.experiment)
    save_experiment(with_values(experiment, {"base.model": str(fake)}), workspace.experiment)
    return f"{fake} is not a whole .safetensors file"


@pytest.mark.parametrize(
    "harm", [_surplus, _truncated, _empty, _file_for_folder, _no_base], ids=lambda harm: harm.__name__
)
def test_bad_input_is_one_line_and_costs_nothing(
    prefect_harness: None, workspace: Workspace, capfd: pytest.CaptureFixture[str], harm: Callable[[Workspace], str]
) -> None:
    message = harm(workspace)
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    # Digests of files that were too young to be remembered may be remembered now.
    before = {path: file_digest(path) for path in files if path != workspace.digests}
    assert main(["train", str(workspace.root)]) in (2, 3)
    shown = capfd.readouterr().err
    assert message in shown and "Traceback" not in shown
    lines = [line for line in shown.splitlines() if "photo-enhancer: error:" in line]
    assert len(lines) == 1 and shown.splitlines()[-1] == lines[0]
    assert {path: file_digest(path) for path in before} == before


def test_a_server_that_is_configured_and_down_is_named(workspace: Workspace) -> None:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "flows.cli", "degrade", str(workspace.root)]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert shown.returncode == 3 and shown.stderr.count("\n") == 1
    assert "http://127.0.0.1:9/api does not answer" in shown.stderr


def test_the_traceback_is_there_for_those_who_ask(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["degrade", "--from", str(workspace.root / "nothing"), "--to", "x", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.splitlines()[-1].startswith("photo-enhancer: error: ")


def test_an_interrupted_command_says_how_to_go_on(
    prefect_harness: None, workspace: Workspace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "train_round", interrupted)
    assert main(["train", str(workspace.root)]) == 130
    shown = capfd.readouterr().err
    assert "the same command goes on where it stopped" in shown and "Traceback" not in shown


def test_a_defect_keeps_its_traceback(capsys: pytest.CaptureFixture[str], monkeypatch, photos: Path) -> None:
    monkeypatch.setattr(degradation, "degrade_folder", lambda *_, **__: 1 / 0)
    assert main(["degrade", "--from", str(photos), "--to", "x"]) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown and "photo-enhancer doctor" in shown


def test_a_folder_is_degraded_and_scored_without_a_workspace(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["degrade", "--from", str(photos), "--to", str(tmp_path / "twins"), "--preset", "light", "--seed", "3"]
    assert main(arguments) == 0 and "8 degraded twins made, 0 were there already" in capsys.readouterr().out
    assert main(arguments) == 0 and "0 degraded twins made, 8 were there already" in capsys.readouterr().out
    assert main(["score", str(tmp_path / "twins"), str(photos), "--set", "scoring.perceptual=gmsd"]) == 0
    table = capsys.readouterr().out
    assert "astronaut" in table and "mean of 8" in table and "GMSD" in table
    write_png(tmp_path / "twins" / "more.png", np.zeros((64, 64, 3), np.uint8))
    assert main(["score", str(tmp_path / "twins"), str(photos)]) == 2
    assert "has no original of more" in capsys.readouterr().err


def test_degrading_tells_of_every_file_that_it_could_not_read(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "broken.jpg").write_bytes(b"no image")
    assert main(["degrade", "--from", str(source), "--to", str(tmp_path / "twins")]) == 2
    shown = capsys.readouterr()
    assert "8 degraded twins made" in shown.out and "broken.jpg" in shown.err
    assert len(os.listdir(tmp_path / "twins")) >= 8
