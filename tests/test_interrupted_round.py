"""A round that is killed in training, in the sweep and while scoring ends in the same bytes as one that never was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_core.experiment import apply_overrides, load_preset, save_experiment
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.training.state import newest_state
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

SETTINGS = [
    "name=mini", "data.resolution=64", "data.views=2", "data.test_size=64", "adapter.rank=4", "adapter.alpha=2",
    "adapter.text_encoder=true", "training.epochs=4", "training.checkpoint_every=2", "training.batch=2",
    "training.state_every=8", "sweep.strengths=[0.1, 0.5]", "sweep.steps=[1, 2]", "sweep.start_noises=[0.0, 1.0]",
    "scoring.perceptual=gmsd", "tuning.dimensions=[]",
]  # fmt: skip


def make_workspace(root: Path, base: Path, photos: Path) -> Workspace:
    workspace = Workspace(root)
    workspace.create()
    targets = workspace.train / "3_targets"
    workspace.targets.rmdir()
    for number, path in enumerate(list_photos(photos)):
        write_png((targets if number < 5 else workspace.test) / path.name, read_rgb(path))
    experiment = apply_overrides(load_preset("pocket"), [f"base.model={base}", *SETTINGS])
    save_experiment(experiment, workspace.experiment)
    return workspace


def start(workspace: Workspace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli", "round", str(workspace.root)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def finish(workspace: Workspace) -> None:
    process = start(workspace)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode()[-2000:]


def kill_when(workspace: Workspace, reached: Callable[[], bool]) -> None:
    """SIGKILL for the command and all its processes as soon as `reached`; fails if the round ends before."""
    process = start(workspace)
    deadline = time.monotonic() + 900
    while not reached():
        assert process.poll() is None, (
            f"the round ended before it could be killed: {process.stderr.read().decode()[-2000:]}"
        )
        assert time.monotonic() < deadline, "the round never got there"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def made(study: StudyFolder, folder: RoundFolder) -> dict[str, bytes]:
    files = [*folder.checkpoints.rglob("*.safetensors"), folder.table, folder.photo_table]
    files += [folder.table.with_suffix(".csv"), folder.table.with_suffix(".xlsx"), folder.result, folder.diagnosis]
    return {str(file.relative_to(study.root)): file.read_bytes() for file in files}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process groups are POSIX's")
def test_killed_in_training_sweep_and_scoring_gives_the_same_bytes(tmp_path, miniature, photos):
    undisturbed = make_workspace(tmp_path / "undisturbed", miniature, photos)
    finish(undisturbed)
    killed = make_workspace(tmp_path / "killed", miniature, photos)
    study = killed.study("mini")
    folder = study.round(0)
    cells = {"base": "base_*/cell.json", "lora": "epoch-*/cell.json"}
    kill_when(killed, lambda: newest_state(folder.states) is not None)
    assert not folder.training_done.exists()
    kill_when(killed, lambda: len(list(study.cells.glob(cells["lora"]))) >= 3)
    assert not folder.sweep_done.exists()
    kill_when(killed, lambda: any(study.scores.glob("*.json")))
    assert not folder.result.exists()
    finish(killed)
    expected, got = made(undisturbed.study("mini"), undisturbed.study("mini").round(0)), made(study, folder)
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []
