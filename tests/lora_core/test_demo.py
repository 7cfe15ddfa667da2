"""The demonstration's photographs."""

from pathlib import Path

from lora_core.demo import create_demo
from lora_core.experiment import load_experiment
from lora_core.files import file_digest
from lora_core.images import list_photos, read_rgb
from lora_core.workspace import Workspace


def test_demo_scores_on_photographs_that_it_does_not_train_on(tmp_path: Path) -> None:
    create_demo(tmp_path / "first")
    workspace = Workspace(tmp_path / "first")
    training, test = list_photos(workspace.targets), list_photos(workspace.test)
    assert (len(training), len(test)) == (16, 8)
    assert not {path.stem.split("-")[0] for path in training} & {path.stem.split("-")[0] for path in test}
    assert {read_rgb(path).shape for path in training + test} == {(192, 192, 3)}
    assert len({file_digest(path) for path in training + test}) == 24, "no two parts are equal"
    assert load_experiment(workspace.experiment).tuning.rounds == 2

    create_demo(tmp_path / "second")
    again = Workspace(tmp_path / "second")
    assert [file_digest(path) for path in list_photos(again.targets)] == [file_digest(path) for path in training]
    marked = workspace.experiment.read_text() + "# mine\n"
    workspace.experiment.write_text(marked)
    create_demo(tmp_path / "first")
    assert workspace.experiment.read_text() == marked
