"""What a child's end means to its parent, and a parent's end to its child."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lora_core.errors import ResourceError
from lora_core.process import ProcessDied, child_environment, only_one, run_in_process
from tests.waiting import wait

MODULE = "tests.lora_core.child"


def run(what: str, folder: Path) -> None:
    run_in_process(MODULE, [what, str(folder / "pid")], folder)


def test_out_of_gpu_memory_says_what_to_lower_in_one_line(tmp_path):
    with pytest.raises(ResourceError, match=r"Tried to allocate 2.00 GiB.*lower training\.batch") as error:
        run("out of memory", tmp_path)
    assert "\n" not in str(error.value)


def test_a_defect_is_a_death_with_its_exit_code(tmp_path, capfd):
    with pytest.raises(ProcessDied, match="child ended with exit code 1"):
        run("defect", tmp_path)
    assert "a shape does not fit" in capfd.readouterr().err


def test_a_good_end_forgets_an_older_error(tmp_path):
    (tmp_path / "error.json").write_text('{"kind": "DataError", "message": "of an earlier attempt"}')
    run("nothing", tmp_path)


@pytest.mark.parametrize("said", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_a_child_waits_as_the_user_said_or_else_spins_for_a_moment(monkeypatch, said):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    ours = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    given = {name: value for name, value in child_environment().items() if name in ours}
    assert given == (said if "OMP_WAIT_POLICY" in said else ours | said)


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot SIGKILL on Windows")
def test_a_child_whose_parent_is_killed_ends_too(tmp_path):
    code = f"from tests.lora_core.test_process import *; run('sleep', Path({str(tmp_path)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code])
    told = tmp_path / "pid"
    child = psutil.Process(int(wait(lambda: told.exists() and told.read_text(), "the start of the child")))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(timeout=20)


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    held = only_one(tmp_path)
    code = f"from lora_core.process import only_one; from pathlib import Path; only_one(Path({str(tmp_path)!r}), 0.2)"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is being written by another run" in refused.stderr
    held.release()
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
