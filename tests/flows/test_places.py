"""Where a workspace may be: a folder, below the served root where there is one, or a place in a bucket."""

from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from flows import names
from flows.cli import main
from flows.options import PLACE
from flows.parameters import enter
from flows.round import round_flow
from lora_core.errors import ConfigError


def test_an_address_keeps_its_slashes_through_command_line_and_form() -> None:
    context = click.Context(click.Command("tune"))
    assert PLACE.convert("s3://bucket/work", None, context) == "s3://bucket/work"
    assert PLACE.convert("work", None, context) == Path("work")
    assert round_flow.validate_parameters({"workspace": "s3://bucket/work"})["workspace"] == "s3://bucket/work"
    schema = round_flow.parameters.properties["workspace"]
    assert schema["type"] == "string" and "anyOf" not in schema


def test_an_address_cannot_leave_the_served_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_ENHANCER_ROOT", str(tmp_path / "root"))
    assert enter((tmp_path / "root" / "work").as_uri()).root == tmp_path / "root" / "work"
    for place in (tmp_path / "other", (tmp_path / "other").as_uri(), f"{(tmp_path / 'root').as_uri()}/../other"):
        with pytest.raises(ConfigError, match="lies outside of"):
            enter(place)


def test_another_kind_of_address_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "ftp://host/work"]) == 2
    assert "mount any other storage and name its folder" in capsys.readouterr().err


def test_a_runs_title_names_the_experiment_and_opens_no_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    title = names.run_name("train")
    said = {"workspace": tmp_path / "work", "preset": "pocket", "number": 3}
    monkeypatch.setattr(names, "flow_run", SimpleNamespace(parameters=said))
    assert title() == "train work: pocket, round 3"
    said["workspace"] = "s3://bucket/work"
    monkeypatch.setattr(names, "settle", lambda *_, **__: pytest.fail("opened the bucket"))
    assert title() == "train work, round 3"
