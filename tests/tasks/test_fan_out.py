"""The same pictures and tables whoever works, and what becomes of workers that fail."""

import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

import lora_core.sweep
from lora_core.errors import ConfigError, DataError, ResourceError, TrainingError
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.files import write_text
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.sections.execution import ExecutionSection
from lora_core.share import Share
from lora_core.workspace import Workspace
from tasks import fan_out, slots
from tasks import sweep as sweeping
from tasks.fan_out import require_runner
from tests.tasks.fanned import fanned, shared_round, twins
from tests.trained_round import trained_round

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@posix
def test_a_part_whose_process_is_killed_is_tried_again(prefect_harness: None, tmp_path: Path) -> None:
    assert fanned("dies_once", tmp_path, ExecutionSection(workers=3)) == ["0-of-3", "1-of-3", "2-of-3"]
    starts = [len((tmp_path / f"{index}-of-3.txt").read_text().splitlines()) for index in range(3)]
    assert starts == [1, 2, 1]


@posix
def test_workers_that_die_themselves_are_started_again(prefect_harness: None, tmp_path: Path) -> None:
    assert fanned("worker_dies_once", tmp_path, ExecutionSection(workers=2, runner="processes")) == [0, 1]


@posix
def test_the_first_error_ends_the_others(prefect_harness: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"on .*: photo\.png cannot be read"):
        fanned("fails", tmp_path, ExecutionSection(workers=2))
    assert (tmp_path / "begun-1").exists() and not (tmp_path / "woke").exists()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@posix
def test_a_share_that_is_about_to_start_its_process_is_ended_too(prefect_harness: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"photo\.png cannot be read"):
        fanned("fails_beside_one_that_begins", tmp_path, ExecutionSection(workers=2))
    assert not (tmp_path / "woke").exists()


def test_an_error_ends_a_share_that_waits_for_a_gpu(
    prefect_harness: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(slots, "gpu_count", lambda: 1)
    monkeypatch.setattr(fan_out, "gpu_count", lambda: 1)
    with slots.gpu_slot(), pytest.raises(DataError, match=r"photo\.png cannot be read"):
        fanned("fails_beside_one_that_waits", tmp_path, ExecutionSection(workers=2))
    assert not (tmp_path / "begun").exists()


def test_work_that_is_not_wanted_any_more_gives_its_slot_back(
    prefect_harness: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "gpu_count", lambda: 1)
    assignment = fan_out.Assignment(Share(0, 2), Path.cwd(), None, True, "call")
    monkeypatch.setattr(fan_out, "_ended", ended := set())
    take = slots._take

    def late(held: ExitStack, names: list[str]) -> bool:
        taken = take(held, names)
        ended.add("call")
        return taken

    monkeypatch.setattr(fan_out, "gpu_count", lambda: 1)
    monkeypatch.setattr(slots, "_take", late)
    with pytest.raises(TrainingError, match="because another one failed"), assignment.own_gpu():
        pytest.fail("it began")
    monkeypatch.setattr(slots, "_take", take)
    with slots.gpu_slot(still_wanted=iter([None, None]).__next__):  # free at the first look
        pass


@posix
def test_a_worker_that_ends_by_itself_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = psutil.Process(child.pid)
    child.communicate()
    monkeypatch.setattr(fan_out, "_descendants", lambda: {gone})
    fan_out._end(ExecutionSection(workers=2, runner="processes"), [], set())


def test_parts_that_add_nothing_leave_the_rest_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where two machines judge a race differently, and each waits for pictures that the other never makes."""
    experiment = apply_overrides(load_preset("pocket"), ["name=mini", "execution.workers=2"])
    workspace = Workspace(tmp_path)
    cells, rounds = workspace.study("mini").cells, []

    def none_goes_on(*_: object, **__: object) -> list[None]:
        rounds.append(len(rounds))
        write_text(cells / "cell" / f"{min(len(rounds), 2)}.png", "picture")
        return [None, None]

    monkeypatch.setattr(sweeping, "fan_out", none_goes_on)
    monkeypatch.setattr(sweeping, "whole_sweep", lambda *_: {"made by": "the whole"})
    for name, answer in (("sweep_digest", "a"), ("parts_digest", "b"), ("swept", False)):
        monkeypatch.setattr(lora_core.sweep, name, lambda *_, answer=answer: answer)
    assert sweeping.sweep(workspace, experiment, 0) == {"made by": "the whole"}
    assert len(rounds) == 3  # two added a picture each, the third none


def test_a_runner_that_is_not_there_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    require_runner(ExecutionSection(workers=2, runner="processes"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        address = f"ray://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ResourceError, match=rf"no Ray answers at {address} .*ray start --head"):
            require_runner(ExecutionSection(runner="ray", address=address))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'photo-enhancer\[ray\]'"):
        require_runner(ExecutionSection(runner="ray"))
    with pytest.raises(ConfigError, match=r"execution: address: only Ray has one"):
        apply_overrides(load_preset("pocket"), ["execution.address=ray://here"])


def test_processes_degrade_to_the_same_bytes(prefect_harness: None, photos: Path, tmp_path: Path) -> None:
    made = []
    for runner, workers in (("threads", 1), ("processes", 2)):
        workspace = Workspace(tmp_path / runner)
        workspace.create()
        for number, path in enumerate(list_photos(photos)):
            write_png((workspace.targets if number < 5 else workspace.test) / path.name, read_rgb(path))
        settings = [f"execution.runner={runner}", f"execution.workers={workers}"]
        assert twins(workspace, apply_overrides(load_preset("pocket"), settings)) == 8
        made.append(files(workspace.root / "dataset"))
    assert made[0] == made[1] and len(made[0]) == 8 + 8 + 2


def test_two_ray_workers_sweep_200_cells_to_the_same_bytes(
    prefect_harness: None, miniature: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home
    settings = [
        "name=mini", "data.test_size=64", "adapter.rank=2", "adapter.alpha=2", "scoring.perceptual=gmsd",
        "scoring.metrics=[ciede2000]", "sweep.strengths=0.1-0.9 [5]", "sweep.start_noises=[0.0, 1.0]",
        "sweep.lora_scales=[0.5, 1.0]", "sweep.detail_returns=[0.0, 1.0]", "sweep.colour_fixes=[none, wavelet]",
        "sweep.race_confidence=0.5",
    ]  # fmt: skip
    trained, experiment = trained_round(tmp_path / "trained", miniature, photos, 3, settings)
    made = {}
    for runner in ("threads", "ray"):
        workspace = Workspace(Path(shutil.copytree(trained.root, tmp_path / runner)))
        working: Experiment = apply_overrides(experiment, [f"execution.runner={runner}", "execution.workers=2"])
        shared_round(workspace, working)
        made[runner] = files(workspace.root / "output")
    assert sum(name.endswith("cell.json") and "reference" not in name for name in made["threads"]) == 200
    assert {"mini/round-000/scores.parquet", "mini/round-000/scores_by_photo.parquet"} <= made["ray"].keys()
    assert made["threads"].keys() == made["ray"].keys()
    assert [name for name, data in made["threads"].items() if made["ray"][name] != data] == []


def files(root: Path) -> dict[str, bytes]:
    """What the work made, without what tells how it went: locks, and the processes' own folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
        and path.name != ".lock"
        and path.parents[1].name != "sweep"
        and path.name != "experiment.yaml"
    }
