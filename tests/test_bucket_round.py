"""A round in a bucket: one machine trains, another goes on where that one stopped, the first reads what came of it."""

from pathlib import Path

import boto3
import pytest

from flows.report import report_flow
from flows.round import round_flow
from flows.train import train_flow
from lora_core.errors import ResourceError
from lora_core.files import read_json
from lora_core.storage import open_place, release_all
from lora_core.storage.places import CACHE
from lora_core.workspace import Workspace
from tests.bucket import BUCKET, running_bucket
from tests.small_round import make_workspace

SETTINGS = (
    "training.epochs=2", "adapter.text_encoder=false", "sweep.steps=[1]", "sweep.start_noises=[0.0]",
    "monitoring.samples=0",
)  # fmt: skip


def upload(folder: Path, path: str) -> None:
    client = boto3.client("s3")
    for file in folder.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"{path}/{file.relative_to(folder).as_posix()}")


def test_a_round_goes_from_machine_to_machine(
    prefect_harness: None, miniature: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bucket() as bucket:
        place = f"{bucket}/people/work"
        upload(make_workspace(tmp_path / "source", miniature, photos).root, "people/work")
        monkeypatch.setenv(CACHE, str(tmp_path / "a"))
        trained = train_flow(place, overrides=SETTINGS)
        first = Workspace(open_place(place)).study("mini").round(0)

        monkeypatch.setenv(CACHE, str(tmp_path / "b"))
        with pytest.raises(ResourceError, match="is being written by"):
            round_flow(place, overrides=SETTINGS)
        release_all()
        result = round_flow(place, overrides=SETTINGS)
        second = Workspace(open_place(place)).study("mini").round(0)
        release_all()
        assert second.root != first.root and not first.result.exists()
        assert read_json(second.training_done)["checkpoints"] == trained["checkpoints"]
        assert second.training_done.read_bytes() == first.training_done.read_bytes()
        assert read_json(second.result)["digest"] == result["digest"]

        monkeypatch.setenv(CACHE, str(tmp_path / "a"))
        page = report_flow(place, overrides=SETTINGS)
        release_all()
        assert page.is_relative_to(tmp_path / "a") and f"Round {result['round']}" in page.read_text()
        for name in ("scores.parquet", "scores.csv", "result.json", "sweep.json"):
            assert (first.root / name).read_bytes() == (second.root / name).read_bytes()
    release_all()
