"""A round that is killed in training, in the sweep and while scoring ends in the same bytes as one that never was."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from lora_core.training.state import newest_state
from lora_core.workspace import Workspace
from tests.small_round import made, make_workspace
from tests.waiting import wait


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

    def there() -> bool:
        assert process.poll() is None, (
            f"the round ended before it could be killed: {process.stderr.read().decode()[-2000:]}"
        )
        return reached()

    wait(there, "getting there", 900, every=0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process groups are POSIX's")
def test_killed_in_training_sweep_and_scoring_gives_the_same_bytes(tmp_path, miniature, photos):
    undisturbed = make_workspace(tmp_path / "undisturbed", miniature, photos)
    finish(undisturbed)
    killed = make_workspace(tmp_path / "killed", miniature, photos)
    study = killed.study("mini")
    folder = study.round(0)
    kill_when(killed, lambda: newest_state(folder.states) is not None)
    assert not folder.training_done.exists()
    kill_when(killed, lambda: len(list(study.cells.glob("epoch-*/*.png"))) >= 3)
    assert not folder.sweep_done.exists()
    kill_when(killed, lambda: any(study.scores.glob("*.json")))
    assert not folder.result.exists()
    finish(killed)
    expected, got = made(undisturbed.study("mini"), undisturbed.study("mini").round(0)), made(study, folder)
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []
