"""The way from photographs to a workspace in which a round can start."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_core.errors import ConfigError, DataError, ResourceError, UserError
from lora_core.experiment import Experiment, apply_overrides, load_experiment, load_preset
from lora_core.files import file_digest
from lora_core.images import list_photos
from lora_core.preparation import check_workspace, create_workspace, prepare
from lora_core.space import check_space
from lora_core.workspace import Workspace


@pytest.fixture
def experiment(miniature: Path) -> Experiment:
    return apply_overrides(load_preset("pocket"), [f"base.model={miniature}", "data.test_size=null"])


@pytest.fixture
def workspace(photos: Path, miniature: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "meine Fotos 照片"
    return create_workspace(root, "pocket", photos, hold_out=0.25, assignments=[f"base.model={miniature}"]).workspace


def names(folder: Path) -> set[str]:
    return {path.name for path in list_photos(folder)}


def digests(folder: Path) -> set[str]:
    return {file_digest(path) for path in list_photos(folder)}


def test_init_splits_by_content_and_writes_an_experiment_that_loads(photos: Path, tmp_path: Path) -> None:
    before = {path: file_digest(path) for path in list_photos(photos)}
    created = create_workspace(tmp_path / "first", "pocket", photos, hold_out=0.25, assignments=["training.epochs=3"])
    assert (created.train, created.test, created.unreadable) == (6, 2, [])
    first = created.workspace
    assert names(first.targets) | names(first.test) == names(photos) and not names(first.targets) & names(first.test)
    assert load_experiment(first.experiment) == apply_overrides(load_preset("pocket"), ["training.epochs=3"])
    assert {path: file_digest(path) for path in list_photos(photos)} == before

    # Other file names, another order: the same photographs are held out.
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(reversed(list_photos(photos))):
        shutil.copy(path, renamed / f"{number}.png")
    second = create_workspace(tmp_path / "second", "pocket", renamed, hold_out=0.25).workspace
    assert digests(second.test) == digests(first.test)


def test_init_again_finishes_what_was_interrupted_and_never_overwrites(photos: Path, tmp_path: Path) -> None:
    workspace = create_workspace(tmp_path, "pocket", photos).workspace
    with pytest.raises(ConfigError, match=r"experiment\.yaml exists"):
        create_workspace(tmp_path, "baseline", photos)
    workspace.experiment.unlink()
    next(workspace.targets.iterdir()).unlink()
    assert create_workspace(tmp_path, "pocket", photos).train == len(names(workspace.targets)) == 7
    workspace.experiment.unlink()
    changed = list_photos(workspace.targets)[0]
    changed.write_bytes(b"my own")
    with pytest.raises(DataError, match=f"{changed.name} exists and differs"):
        create_workspace(tmp_path, "pocket", photos)
    assert changed.read_bytes() == b"my own"


def test_init_leaves_unreadable_files_behind_and_names_them(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    created = create_workspace(tmp_path / "workspace", "pocket", source)
    assert [bad.path.name for bad in created.unreadable] == ["broken.jpg"] and created.train + created.test == 8


def test_copies_of_one_photograph_stay_on_one_side(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in list_photos(photos):
        shutil.copy(path, source / path.name)
        shutil.copy(path, source / f"copy-{path.name}")
    workspace = create_workspace(tmp_path / "workspace", "pocket", source, hold_out=0.5).workspace
    assert not digests(workspace.targets) & digests(workspace.test) and len(digests(workspace.test)) == 4


def test_prepare_makes_each_twin_once(workspace: Workspace, experiment: Experiment) -> None:
    first = prepare(workspace, experiment)
    assert (first.train, first.test, first.twins_made) == (6, 2, 8)
    assert names(workspace.degraded) == names(workspace.targets)
    assert names(workspace.test_degraded) == names(workspace.test)
    again = prepare(workspace, experiment)
    assert again.twins_made == 0
    assert (again.dataset_digest, again.base_digest) == (first.dataset_digest, first.base_digest)
    assert again.space < first.space, "the twins that are there need no more room"


def test_prepare_takes_twins_that_the_user_brings(workspace: Workspace, experiment: Experiment) -> None:
    prepare(workspace, experiment)
    for folder in (workspace.degraded, workspace.test_degraded):
        for twin in folder.iterdir():
            if twin not in list_photos(folder):
                twin.unlink()
    before = {path: path.stat().st_mtime_ns for path in list_photos(workspace.degraded)}
    own = apply_overrides(experiment, ["degradation.preset=own"])
    assert prepare(workspace, own).twins_made == 0
    assert {path: path.stat().st_mtime_ns for path in list_photos(workspace.degraded)} == before


def _truncate(workspace: Workspace) -> None:
    victim = list_photos(workspace.targets)[2]
    victim.write_bytes(victim.read_bytes()[:200])


def _leave_one(workspace: Workspace) -> None:
    for path in list_photos(workspace.targets)[1:]:
        path.unlink()


def _empty(folder: Path) -> None:
    for path in list_photos(folder):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (_truncate, DataError, r"1 photograph\(s\) cannot be read; .*\.png: "),
        (_leave_one, DataError, r"10_targets holds only 1 photograph .* at least 2"),
        (lambda workspace: _empty(workspace.targets), DataError, r"10_targets holds no photograph"),
        (lambda workspace: _empty(workspace.test), DataError, r"test holds no photograph"),
        (lambda workspace: shutil.rmtree(workspace.train), DataError, r"train does not exist"),
        (
            lambda workspace: shutil.copy(list_photos(workspace.targets)[0], workspace.test / "seen.png"),
            DataError,
            r"seen\.png is the same photograph as .*10_targets",
        ),
        (
            lambda workspace: shutil.copy(list_photos(workspace.test)[0], workspace.degraded / "stranger.png"),
            DataError,
            r"stranger\.png has no clean photograph",
        ),
    ],
)
def test_prepare_refuses(
    workspace: Workspace,
    experiment: Experiment,
    harm: Callable[[Workspace], object],
    kind: type[UserError],
    message: str,
) -> None:
    harm(workspace)
    with pytest.raises(kind, match=message):
        prepare(workspace, experiment)


def test_unreadable_photographs_cost_no_twin_of_the_others(workspace: Workspace, experiment: Experiment) -> None:
    _truncate(workspace)
    with pytest.raises(DataError, match="cannot be read"):
        prepare(workspace, experiment)
    assert len(names(workspace.degraded)) == 5 and len(names(workspace.test_degraded)) == 2


def test_space_is_asked_for_before_anything_is_made(workspace: Workspace, experiment: Experiment) -> None:
    small = check_space(workspace, experiment, 1)
    assert check_space(workspace, experiment, 2) > small
    free = shutil.disk_usage(workspace.root).free
    many = ["base.model=a/b", "adapter.rank=512", "training.epochs=10000", "training.checkpoint_every=1"]
    greedy = apply_overrides(experiment, many)
    with pytest.raises(ResourceError, match=r"needs about [\d,]+ MiB"):
        check_space(workspace, greedy, 1 + free // 10**13)
    assert not os.listdir(workspace.degraded)


def test_the_latents_and_pictures_of_the_estimate(workspace: Workspace, experiment: Experiment) -> None:
    """The stated formula, by hand, for what a second round adds to the first: its checkpoints and its LoRA cells."""
    one, two = (check_space(workspace, experiment, rounds) for rounds in (1, 2))
    checkpoints, cells, pixels = 2, 3 * 1 * 1 * 3 * 2, 2 * 144 * 128
    adapter = 32 * 1_400_000 * 4
    states = 3 * 3  # the newest, the one under way and the best; weights and two moments each
    assert two - one == (2 * checkpoints + states) * adapter + cells * pixels * 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scoring.perceptual=lpips", "AlexNet weights .* not in the torch hub cache; run once: .*--download-lpips"),
        ("scoring.metrics=[lpips_vgg]", "VGG-16 weights .* run once: .*--download-weights vgg16"),
        ("scoring.metrics=[dists]", "VGG-16 weights .* name a copy under scoring.vgg_weights"),
    ],
)
def test_weights_of_a_metric_are_missed_before_anything_expensive(
    workspace: Workspace, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    setting: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    with pytest.raises(ResourceError, match=message):
        check_workspace(workspace, apply_overrides(experiment, [setting]))
