"""Making a workspace is a flow too."""

from pathlib import Path

from flows.init import init_flow
from lora_core.images import list_photos
from lora_core.workspace import Workspace


def test_the_flow_makes_the_workspace_that_the_command_makes(prefect_harness, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    broken = tmp_path / "in" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not a photograph")
    for path in list_photos(photos):
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    made = init_flow(tmp_path / "work", "pocket", tmp_path / "in", hold_out=0.25)
    workspace = Workspace(tmp_path / "work")
    assert (
        (made["train"], made["test"])
        == (len(list_photos(workspace.targets)), len(list_photos(workspace.test)))
        == (6, 2)
    )
    assert [line.split(":")[0] for line in made["left_out"]] == [str(broken)]
    assert workspace.experiment.exists()
