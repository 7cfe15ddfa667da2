"""Artifacts on Prefect's pages, read back from a real server."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

from lora_core.experiment import Experiment
from lora_core.files import write_json, write_text
from lora_core.progress import progress_bar, read_progress, told_in
from lora_core.storage.places import ROOT
from lora_core.workspace import Workspace
from tasks import links, progress
from tasks.artifacts import artifact_key, publish_round, publish_scores
from tasks.progress import ProgressArtifact, round_progress, rounds_artifact
from tests.report_study import Study, make_study
from tests.waiting import wait

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.parametrize(
    ("folder", "name", "key"),
    [
        ("work", "pocket", "work-pocket-scores"),
        ("Söhne & Co", "My_SD1.5-Run", "s-hne-co-my-sd1-5-run-scores"),
        ("фото", "A.", "5cea446a-a-scores"),
    ],
)
def test_keys_keep_to_the_characters_that_prefect_allows(folder: str, name: str, key: str) -> None:
    assert artifact_key(Workspace(Path("/photos") / folder), Experiment(name=name), "scores") == key


@pytest.fixture
def study(tmp_path: Path, photos: Path) -> Study:
    study = make_study(tmp_path / "served" / "anna & co", photos, rounds=2, limit=2)
    results = [json.loads(folder.result.read_text()) for folder in study.workspace.study("study").rounds()]
    for result in results:
        result |= {"reading": ["It fell."], "diagnosis": result["diagnosis"][:1]}
    write_text(study.workspace.study("study").ledger, "".join(json.dumps(result) + "\n" for result in results))
    return study


def test_a_round_leaves_table_diagnosis_winner_and_links(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, str(study.workspace.root.parent))
    monkeypatch.setenv(links.PAGES, "http://127.0.0.1:4201/")
    monkeypatch.setenv(links.TENSORBOARD, "http://127.0.0.1:4202")
    results = [json.loads(line) for line in study.workspace.study("study").ledger.read_text().splitlines()]

    @flow
    def publishing(number: int) -> None:
        publish_scores(study.workspace, study.experiment, number)
        publish_round(study.workspace, study.experiment, results[number])

    publishing(0)
    publishing(1)
    key = "anna-co-study-"
    report = "http://127.0.0.1:4201/files/anna%20%26%20co/output/study/report.html"
    assert f"[Report of study]({report})" in _data(key + "report")
    assert "http://127.0.0.1:4202" in _data(key + "curves")
    assert report in _data(key + "diagnosis") and "# Round 1 of study" in _data(key + "diagnosis")
    best = max(results, key=lambda result: result["winner"]["composite"])["round"]
    assert f"# Best of study so far: round {best}" in _data(key + "winner")
    assert "| denoise strength | 0.2 |" in _data(key + "winner")
    composites = [row["composite"] for row in json.loads(_data(key + "scores"))]
    assert composites == sorted(composites, reverse=True) and results[1]["winner"]["composite"] in composites
    assert len(_versions(key + "scores")) == 2, "the rounds are versions of one artifact"


def test_what_cannot_be_published_ends_no_run(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    study.workspace.study("study").round(0).table.unlink()

    @flow
    def publishing() -> str:
        publish_scores(study.workspace, study.experiment, 0)
        return "went on"

    assert publishing() == "went on"
    assert "Not published: scores" in caplog.text


def test_progress_of_another_process_is_shown_until_the_end_and_goes_on(study: Study) -> None:
    folder = study.workspace.study("study").round(5).root
    key, seen = "anna-co-study-progress", []

    @flow
    def running(first: int) -> None:
        with round_progress(study.workspace, study.experiment, 5, every=0.05):
            _tell(folder / "training", "train", "update", first, 40)
            wait(lambda: _data(key) and float(_data(key)) == 100 * first / 40, "the artifact")
            seen.append(Artifact.get(key).description)
            with progress_bar("score", "cell", 4) as bar:  # in this process
                bar.update(4)
        assert read_progress(folder).what == "score"

    running(10)
    running(20)
    assert seen == [f"Round 5: training, {done} of 40 updates" for done in (10, 20)]
    assert float(_data(key)) == 100 and Artifact.get(key).description == "Round 5: scoring, 4 of 4 cells"
    assert len(_versions(key)) == 2


def test_the_loop_shows_its_rounds(study: Study) -> None:
    @flow
    def looping() -> None:
        show = rounds_artifact(study.workspace, study.experiment)
        show([{}, {}], None)
        assert float(_data("anna-co-study-rounds")) == 50
        show([{}, {}, {}], "a plateau")

    looping()
    assert float(_data("anna-co-study-rounds")) == 100
    assert Artifact.get("anna-co-study-rounds").description == "3 of at most 4 rounds. Stopped: a plateau"


def test_a_server_that_is_away_ends_no_run(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    @flow
    def alone() -> str:
        artifact = ProgressArtifact("alone")
        with monkeypatch.context() as patch:
            patch.setattr(progress, "create_progress_artifact", away)
            artifact.tell(50, "half")
        artifact.tell(50, "half")  # it is there again
        return "went on"

    assert alone() == "went on"
    assert "Not published: alone (All connection attempts failed)" in caplog.text
    assert len(_versions("alone")) == 1
    ProgressArtifact("outside").tell(50, "of a run")
    assert _versions("outside") == []


def test_parts_of_one_job_add_up_and_damaged_files_are_passed_over(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    _tell(tmp_path / "training", "train", "update", 10, 10)
    time.sleep(0.01)
    _tell(tmp_path / "sweep", "sweep", "picture", 2, 30)  # it was begun as a whole, then in two parts, then in three
    _tell(tmp_path / "sweep" / "0-of-2", "sweep", "picture", 5, 15)
    time.sleep(0.01)
    _tell(tmp_path / "sweep" / "0-of-3", "sweep", "picture", 3, 10)
    _tell(tmp_path / "sweep" / "1-of-3", "sweep", "picture", 4, 10)
    write_text(tmp_path / "sweep" / "2-of-3" / "progress.json", "{")
    told = read_progress(tmp_path)
    assert told is not None and (told.what, told.done, told.total, told.percent) == ("sweep", 7, 20, 35.0)


def test_a_bar_without_a_place_to_write_goes_on(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with told_in(tmp_path / "file"), progress_bar("train", "update", 2) as bar:
        bar.update()
    assert bar.n == 1 and not (tmp_path / "progress.json").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "served/../secret", "served-too/x"])
def test_files_outside_of_the_root_have_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv(ROOT, str(tmp_path / "served"))
    monkeypatch.setenv(links.PAGES, "http://127.0.0.1:4201")
    assert links.address_of(tmp_path / path) is None
    assert links.address_of(tmp_path / "served" / "ü#.html") == "http://127.0.0.1:4201/files/%C3%BC%23.html"
    monkeypatch.delenv(links.PAGES)
    assert links.address_of(tmp_path / "served" / "x") is None


def _tell(folder: Path, what: str, unit: str, done: int, total: int) -> None:
    write_json(folder / "progress.json", {"what": what, "unit": unit, "done": done, "total": total})


def _data(key: str) -> str:
    found = Artifact.get(key)
    return str(found.data) if found else ""


def _versions(key: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        artifacts: list[Any] = client.read_artifacts(limit=200)
    return [artifact for artifact in artifacts if artifact.key == key]
