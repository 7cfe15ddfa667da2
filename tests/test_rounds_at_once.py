"""Two rounds of one study at the same time end in the same bytes as one after the other."""

import subprocess
import sys
from pathlib import Path

from lora_core.lineage import read_results
from lora_core.workspace import Workspace
from tests.small_round import QUICK, made, make_workspace


def start(workspace: Workspace, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", "round", str(workspace.root), "--round", str(number)]
    command += ["--set", f"training.learning_rate={1 + number}e-4"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait(process: subprocess.Popen[str]) -> None:
    errors = process.communicate(timeout=900)[1]
    assert process.returncode == 0, errors[-2000:]


def test_rounds_that_run_together_make_what_they_make_alone(tmp_path: Path, miniature: Path, photos: Path) -> None:
    settings = [*QUICK, "tuning.parallel=2"]
    alone, together = (make_workspace(tmp_path / name, miniature, photos, settings) for name in ("alone", "together"))
    for number in (0, 1):
        wait(start(alone, number))
    for process in [start(together, number) for number in (0, 1)]:
        wait(process)
    wanted, got = alone.study("mini"), together.study("mini")
    assert [result["round"] for result in read_results(got)] == [0, 1]
    assert read_results(got) == read_results(wanted)
    for number in (0, 1):
        expected, there = made(wanted, wanted.round(number)), made(got, got.round(number))
        assert expected.keys() == there.keys()
        assert [name for name in expected if expected[name] != there[name]] == []
