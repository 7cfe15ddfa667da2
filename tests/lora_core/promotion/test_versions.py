"""The champion is always whole, whoever is killed when; all champions are kept and come back."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.files import read_json, write_json, write_text
from lora_core.promotion.pointer import read_moves
from lora_core.promotion.versions import Version, all_versions, install, present_champion, roll_back
from lora_core.workspace import Workspace

KILLS = 60


def champion_is_whole(workspace: Workspace) -> str:
    """What any reader does: finds the folder, and reads everything in it. Returns the version."""
    folder = workspace.champion
    digest = hashlib.sha256((folder / "lora.safetensors").read_bytes()).hexdigest()
    assert read_json(folder / "settings.json")["digest"] == digest and folder.name.endswith(digest[:12])
    assert read_json(folder / "promotion.json")["version"] == folder.name
    return folder.name


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL are POSIX's")
def test_a_reader_finds_a_whole_champion_while_promotions_are_killed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lora_core.promotion.slayer", str(tmp_path), str(KILLS), "7"]
    )
    seen: list[str] = []
    while process.poll() is None:
        if (workspace.champions / "current.json").exists():
            seen.append(champion_is_whole(workspace))
    assert process.returncode == 0 and len(set(seen)) > 1 and seen == sorted(seen)
    names = [version.name for version in all_versions(workspace.champions)]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    # Killed before its turn at the pointer, a version is whole all the same, and its next promotion takes it.
    last = all_versions(workspace.champions)[-1]
    install(workspace, last.settings["digest"], lambda _: pytest.fail("it is there"), "the test", "")
    assert champion_is_whole(workspace) == last.name
    made = install(workspace, "f" * 64, lambda folder: write_json(folder / "settings.json", {}), "the test", "")
    assert made.name == f"{len(names) + 1:04d}-{'f' * 12}"
    strangers = {path.name for path in workspace.champions.iterdir()} - {*names, made.name}
    assert strangers == {"current.json", ".lock"}


def champion(workspace: Workspace, letter: str) -> str:
    def write(folder: Path) -> None:
        write_json(folder / "settings.json", {"lora": "it.safetensors", "letter": letter})

    return install(workspace, letter * 64, write, "the test", f"note {letter}").name


def test_earlier_champions_come_back_one_by_one_or_by_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ConfigError, match="there is no champion yet"):
        roll_back(workspace)
    assert present_champion(workspace) is None and workspace.champion == workspace.champions
    one, two, three = (champion(workspace, letter) for letter in "abc")
    assert champion(workspace, "c") == three and len(read_moves(workspace.champions)) == 3, "it was it already"
    assert roll_back(workspace, note="better skin").name == two == workspace.champion.name
    assert roll_back(workspace).name == one
    with pytest.raises(ConfigError, match="no champion before the present one"):
        roll_back(workspace)
    assert roll_back(workspace, "3").name == three and roll_back(workspace, "0002").name == two
    assert champion(workspace, "a") == one == workspace.champion.name, "promoted again, it is the same version"
    assert roll_back(workspace).name == two
    for wanted, message in ((two, "is the champion already"), ("9", f"there are {one}, {two}, {three}"), ("00", "or")):
        with pytest.raises(ConfigError, match=message):
            roll_back(workspace, wanted)
    move = read_moves(workspace.champions)[3]
    assert (move.how, move.note, move.version) == ("rolled back", "better skin", two)


def test_a_champion_from_before_there_were_versions_becomes_the_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    loose = workspace.champions
    write_json(loose / "settings.json", {"lora": "old.safetensors", "name": "old", "round": 1})
    write_text(loose / "old.safetensors", "weights")
    write_text(loose / "README.md", "card")
    write_text(loose / "diffusers" / "pytorch_lora_weights.safetensors", "diffusers")
    present = present_champion(workspace)
    assert present is not None and present.lora.read_text() == "weights" and present.scores is None
    new = champion(workspace, "a")
    first = all_versions(workspace.champions)[0]
    assert new == workspace.champion.name == all_versions(workspace.champions)[1].name
    assert first.lora.read_text() == "weights" and (first.folder / "README.md").read_text() == "card"
    assert (first.folder / "diffusers" / "pytorch_lora_weights.safetensors").read_text() == "diffusers"
    assert not (loose / "settings.json").exists() and not (loose / "diffusers").exists()
    assert roll_back(workspace).name == first.name


@pytest.mark.parametrize("lora", ["..", "../photos", "/photos", "x/y.safetensors", "diffusers", "0001-aaaaaaaaaaaa", 7])
def test_settings_that_name_anything_but_a_file_beside_them_are_refused(tmp_path: Path, lora: object) -> None:
    workspace = Workspace(tmp_path)
    write_json(workspace.champions / "settings.json", {"lora": lora})
    write_text(workspace.output / "photos" / "a.txt", "kept")
    before = {*tmp_path.rglob("*"), workspace.champions / ".lock"}
    for use in (lambda: champion(workspace, "a"), lambda: Version(workspace.champions).lora):
        with pytest.raises(DataError, match=r"settings\.json: lora is .*, not the name of a \.safetensors file"):
            use()
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "text", ["", '{"moves": []}', '{"moves": [{"version": "../../etc"}]}', '{"moves": [["0001-aaaaaaaaaaaa"]]}']
)
def test_a_damaged_pointer_is_named_and_can_be_set_anew(tmp_path: Path, text: str) -> None:
    workspace = Workspace(tmp_path)
    one, two = (champion(workspace, letter) for letter in "ab")
    write_text(workspace.champions / "current.json", text)
    for use in (lambda: workspace.champion, lambda: roll_back(workspace), lambda: champion(workspace, "c")):
        with pytest.raises(DataError, match=r"current\.json is damaged.*rollback --to VERSION"):
            use()
    assert roll_back(workspace, "1").name == one == workspace.champion.name
    assert roll_back(workspace, two).name == two


def test_a_pointer_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    champion(workspace, "a")
    moves = read_json(workspace.champions / "current.json")
    moves["moves"][0]["version"] = "../../0001-aaaaaaaaaaaa"
    write_json(workspace.champions / "current.json", moves)
    with pytest.raises(DataError, match="names no version"):
        present_champion(workspace)


def test_a_champion_whose_folder_is_gone_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    champion(workspace, "a")
    workspace.champion.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="0001-aaaaaaaaaaaa, the champion, is not there"):
        present_champion(workspace)
