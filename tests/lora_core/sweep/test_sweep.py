"""A sweep of two made-up checkpoints of the miniature, with a race and without."""

import platform
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_core.company import Company
from lora_core.errors import BaseModelError, DataError, TrainingError, UserError
from lora_core.experiment import Experiment, apply_overrides, with_values
from lora_core.files import file_digest, read_json, write_json, write_text
from lora_core.images import read_rgb
from lora_core.progress import progress_bar, told_in
from lora_core.scoring import score_part, score_round
from lora_core.share import WHOLE, Share, named_host
from lora_core.sweep.cells import painted, picture_count, picture_path, put_picture
from lora_core.sweep.launch import company_of, conclude_sweep, parts_digest, sweep_digest, sweep_part, swept
from lora_core.sweep.worker import Sweep
from lora_core.workspace import StudyFolder, Workspace
from tests.trained_round import trained_round

SETTINGS = [
    "name=mini", "data.test_size=64", "adapter.rank=2", "adapter.alpha=2", "scoring.perceptual=gmsd",
    "sweep.strengths=[0.05, 0.6]", "sweep.start_noises=[0.0, 1.0]", "sweep.lora_scales=[0.5, 1.0]",
    "sweep.detail_returns=[1.0]", "sweep.colour_fixes=[none, wavelet]", "sweep.batch=5",
    "adapter.text_encoder=true",
]  # fmt: skip
PHOTOS = 7


@pytest.fixture(scope="module")
def trained(miniature: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Experiment]:
    """A workspace of seven test photographs and a round with two checkpoints of random weights."""
    return trained_round(tmp_path_factory.mktemp("sweep"), miniature, photos, PHOTOS, SETTINGS)


def copy_of(trained: tuple[Workspace, Experiment], root: Path, *settings: str) -> tuple[Workspace, Experiment]:
    shutil.copytree(trained[0].root, root, dirs_exist_ok=True)
    return Workspace(root), apply_overrides(trained[1], list(settings))


def bytes_of(study: StudyFolder) -> dict[str, bytes]:
    paths = [*study.cells.rglob("*"), *study.root.glob("round-*/sweep.json")]
    return {str(path.relative_to(study.root)): path.read_bytes() for path in paths if path.is_file()}


def painted_by(share: Share, workspace: Workspace, experiment: Experiment) -> dict | None:
    """As the process of a part does it, in this one."""
    company = company_of(workspace.study("mini").round(0), share)
    with company.at_work(), torch.no_grad():
        return Sweep(workspace, experiment, 0, company).run()


def sweep(workspace: Workspace, experiment: Experiment) -> None:
    """The whole, in this process."""
    made = painted_by(WHOLE, workspace, experiment)
    conclude_sweep(workspace, experiment, 0, made, sweep_digest(workspace, experiment, 0))


@pytest.fixture(scope="module")
def raced(trained, tmp_path_factory) -> tuple[Workspace, Experiment]:
    made = copy_of(trained, tmp_path_factory.mktemp("raced"))
    sweep(*made)
    return made


def test_the_race_drops_settings_and_says_so(raced):
    workspace, _ = raced
    study = workspace.study("mini")
    done = read_json(study.round(0).sweep_done)
    assert len(done["cells"]) == 2 * 2 * 2 * (1 + 2 * 2) and len(set(done["test"])) == PHOTOS
    (stage,) = done["race"]["stages"]
    gone = {one["id"] for one in stage["dropped"]}
    assert stage["photos"] == 5 and 0 < len(gone) < len(done["cells"])
    for row in done["cells"]:
        assert row["photos"] == (5 if row["id"] in gone else PHOTOS)
        manifest = read_json(study.cells / row["id"] / "cell.json")
        assert manifest["photos"].keys() == set(done["test"][: row["photos"]])
        assert len(list((study.cells / row["id"]).glob("*.png"))) == row["photos"]
    assert {row["kind"] for row in done["cells"] if row["photos"] == PHOTOS} == {"lora", "base"}
    assert done["race"]["evaluations"] < done["race"]["exhaustive_evaluations"] == PHOTOS * 4 * (1 + 2 * 2)
    assert {row["lora_scale"] for row in done["cells"] if row["kind"] == "base"} == {None}


def test_the_scores_name_what_was_dropped_and_never_let_it_win(raced):
    workspace, experiment = raced
    concluded = score_round(workspace, experiment, 0)
    done = read_json(workspace.study("mini").round(0).sweep_done)
    through = {row["id"] for row in done["cells"] if row["photos"] == PHOTOS}
    assert concluded["winner"]["id"] in through and concluded["base"]["id"] in through
    assert set(concluded["front"]) <= through
    assert concluded["winner"]["dropped_after"] is None and concluded["winner"]["photos"] == PHOTOS


def test_what_was_killed_goes_on_to_the_same_bytes(raced, tmp_path):
    workspace, experiment = copy_of(raced, tmp_path)
    study = workspace.study("mini")
    expected = bytes_of(study)
    assert swept(study, study.round(0), sweep_digest(workspace, experiment, 0))
    done = read_json(study.round(0).sweep_done)
    study.round(0).sweep_done.unlink()
    for number, row in enumerate(done["cells"]):  # as a kill in the last stage, or in the first, would leave them
        folder = study.cells / row["id"]
        if number % 3 == 0:
            shutil.rmtree(folder)
        elif number % 3 == 1:
            (folder / "cell.json").unlink()
            (folder / f"{done['test'][2]}.png").unlink()
    assert not swept(study, study.round(0), sweep_digest(workspace, experiment, 0))
    sweep(workspace, experiment)
    assert bytes_of(study) == expected


def test_parts_make_the_same_bytes_as_the_whole(trained, raced, tmp_path):
    """One after the other, as if there were one GPU; each stage of the race waits for the parts of all."""
    workspace, experiment = copy_of(trained, tmp_path / "parts")
    study, shares = workspace.study("mini"), [Share(index, 3) for index in range(3)]
    digest = sweep_digest(workspace, experiment, 0)
    part = partial(painted_by, workspace=workspace, experiment=experiment)
    assert [part(share) is None for share in shares] == [True, True, True]  # the last one has made a part of stage two
    assert not list(study.cells.glob("[be]*/cell.json")) and list(study.cells.glob("reference*/cell.json"))
    made = next(done for share in shares if (done := part(share)) is not None)
    conclude_sweep(workspace, experiment, 0, made, digest)
    assert bytes_of(study) == bytes_of(raced[0].study("mini"))
    counted = [painted(company_of(study.round(0), share).own) for share in shares]
    assert min(counted) > 0 and sum(counted) == len(list(study.cells.glob("[be]*/*.png")))
    for share in shares:
        score_part(workspace, experiment, 0, share, file_digest(study.round(0).sweep_done))
    whole = copy_of(raced, tmp_path / "whole")
    assert score_round(workspace, experiment, 0) == score_round(*whole, 0)
    other = whole[0].study("mini")
    for name in ("scores/*.json", "round-000/scores*"):
        assert {path.name: path.read_bytes() for path in study.root.glob(name)} == {
            path.name: path.read_bytes() for path in other.root.glob(name)
        }


def test_a_worker_with_another_base_or_none_says_so(trained, tmp_path, miniature):
    workspace, experiment = copy_of(trained, tmp_path)
    digest = parts_digest(workspace, experiment, 0)
    lacking = with_values(experiment, {"base.model": str(tmp_path / "nowhere")})
    with pytest.raises(BaseModelError, match=rf"on {platform.node()}: .*nowhere does not exist"), named_host():
        sweep_part(workspace, lacking, 0, Share(0, 2), digest)
    other = shutil.copytree(miniature, tmp_path / "other")
    config = read_json(other / "scheduler" / "scheduler_config.json")
    write_json(other / "scheduler" / "scheduler_config.json", {**config, "beta_end": 0.013})
    with pytest.raises(DataError, match=r"round-000 is not what the run has there: base, photographs, checkpoints or"):
        sweep_part(workspace, with_values(experiment, {"base.model": str(other)}), 0, Share(0, 2), digest)
    with pytest.raises(DataError, match=r"done\.json is not here; every worker needs the workspace in a folder"):
        sweep_part(Workspace(tmp_path / "unmounted"), experiment, 0, Share(0, 2), digest)


def test_a_worker_that_would_judge_the_race_by_another_metric_is_refused(trained, tmp_path, monkeypatch):
    """Where one has the weights and another not, their races drop different settings and wait for each other."""
    workspace, experiment = copy_of(trained, tmp_path, "scoring.perceptual=auto")
    unraced = with_values(experiment, {"sweep.race": False})
    monkeypatch.setattr("lora_core.perceptual.choice.why_not_in_cache", lambda weights: "not here")
    digests = [parts_digest(workspace, one, 0) for one in (experiment, unraced)]
    stored = sweep_digest(workspace, experiment, 0)
    monkeypatch.setattr("lora_core.perceptual.choice.why_not_in_cache", lambda weights: None)
    with pytest.raises(DataError, match=r"checkpoints or perceptual metric differ .*every worker needs .*weights"):
        sweep_part(workspace, experiment, 0, Share(0, 2), digests[0])
    assert parts_digest(workspace, unraced, 0) == digests[1]  # nobody judges
    assert sweep_digest(workspace, experiment, 0) == stored  # what is kept stays what it was


def test_a_part_that_dies_is_asked_for_its_own_progress(trained, tmp_path, monkeypatch):
    """Only pictures that it made are progress: not those of the other parts, nor how far its bar came again."""
    workspace, experiment = copy_of(trained, tmp_path)
    study, asked = workspace.study("mini"), []
    own, picture = company_of(study.round(0), Share(0, 2)).own, np.zeros((8, 8, 3), np.uint8)

    def dies(module: str, arguments: list[str], folder: Path, *, saved: Callable[[], object]) -> None:
        asked.append(saved())
        for name in ("photo-0.png", ".photo-1.12-34.tmp.png"):
            write_text(study.cells / "of-another" / name, "picture")
        asked.append(saved())
        with told_in(own), progress_bar("sweep", "picture", 10) as bar:
            bar.update(3)
        asked.append(saved())
        put_picture(picture_path(study, "of-mine", "photo-0"), picture, folder)
        asked.append(saved())
        raise TrainingError("died")

    monkeypatch.setattr("lora_core.sweep.launch.run_in_process", dies)
    with pytest.raises(TrainingError):
        sweep_part(workspace, experiment, 0, Share(0, 2), parts_digest(workspace, experiment, 0))
    assert asked == [0, 0, 0, 1]
    assert picture_count(study) == 2


def test_a_part_counts_what_is_there_when_it_looks_at_the_disk(trained, raced, tmp_path, monkeypatch):
    """A full disk is found before the first picture; pictures that others made need no room."""
    asked = []
    monkeypatch.setattr("lora_core.sweep.worker.require_space", lambda folder, needed, purpose: asked.append(needed))
    company = Company(tmp_path / "locks", Share(1, 2))
    Sweep(*copy_of(trained, tmp_path / "empty"), 0, company)
    Sweep(*copy_of(raced, tmp_path / "full"), 0, company)
    assert asked[0] > asked[1]


def test_without_a_race_every_cell_sees_all_and_shared_pictures_agree(trained, raced, tmp_path):
    workspace, experiment = copy_of(trained, tmp_path, "sweep.race=false")
    sweep(workspace, experiment)
    study, other = workspace.study("mini"), raced[0].study("mini")
    done = read_json(study.round(0).sweep_done)
    assert done["race"] is None and {row["photos"] for row in done["cells"]} == {PHOTOS}
    pictures = sorted(other.cells.glob("*/*.png"))
    assert len(pictures) > 200
    for path in pictures:
        same = study.cells / path.parent.name / path.name
        assert np.abs(read_rgb(path).astype(int) - read_rgb(same)).max() <= 1, path


def test_fewer_photographs_than_the_race_needs_are_named(trained, tmp_path, caplog):
    workspace, experiment = copy_of(trained, tmp_path, "data.test_limit=5", "sweep.strengths=[0.05]")
    done = painted_by(WHOLE, workspace, experiment)
    assert done["race"] is None and {row["photos"] for row in done["cells"]} == {5}
    assert "needs more than 5 test photographs, there are 5" in caplog.text


def test_a_weaker_lora_is_nearer_to_the_base(raced):
    """The scale is a dial: pictures at half scale lie between the base's and those at full scale."""
    study = raced[0].study("mini")
    done = read_json(study.round(0).sweep_done)
    alike = ("strength", "start_noise", "steps", "detail_return", "colour_fix", "seed")
    wanted = {"strength": 0.6, "start_noise": 0.0, "steps": 1, "detail_return": 1.0, "colour_fix": "none", "seed": 0}
    of = {
        (row["epoch"], row["lora_scale"]): study.cells / row["id"] / f"{done['test'][0]}.png"
        for row in done["cells"]
        if {key: row[key] for key in alike} == wanted
    }
    base = read_rgb(of[None, None]).astype(float)
    for epoch in (1, 2):
        half, full = (np.abs(read_rgb(of[epoch, scale]) - base).mean() for scale in (0.5, 1.0))
        assert 0 < half < full


def test_a_checkpoint_that_is_gone_changed_or_damaged_is_named(trained, tmp_path):
    workspace, experiment = copy_of(trained, tmp_path, "adapter.formats=diffusers")
    folder = workspace.study("mini").round(0)
    rows = read_json(folder.training_done)["checkpoints"]
    file = folder.root / rows[1]["file"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=rf"{file.name} is not the file that was trained"):
        painted_by(WHOLE, workspace, experiment)
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name} is missing"):
        painted_by(WHOLE, workspace, experiment)
    file.write_bytes(whole)
    loaded = folder.root / rows[1]["diffusers"] / "pytorch_lora_weights.safetensors"
    loaded.write_bytes(loaded.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"pytorch_lora_weights\.safetensors"):
        painted_by(WHOLE, workspace, experiment)


def test_dropout_of_the_training_does_not_act(trained, tmp_path):
    """In bf16 the LoRA stands apart, where its dropout could act."""
    settings = ["base.precision=bf16", "adapter.dropout=0.5", "data.test_limit=2", "sweep.strengths=[0.6]"]
    made = []
    for name in ("one", "other"):
        workspace, experiment = copy_of(trained, tmp_path / name, *settings, "sweep.colour_fixes=[none]")
        sweep(workspace, experiment)
        made.append(bytes_of(workspace.study("mini")))
    assert made[0] == made[1]


def test_a_table_of_another_metric_than_the_races_is_refused(raced, tmp_path):
    workspace, experiment = copy_of(raced, tmp_path)
    file = workspace.study("mini").round(0).sweep_done
    done = read_json(file)
    done["race"]["perceptual"] = "LPIPS (AlexNet v0.1)"
    write_json(file, done)
    with pytest.raises(DataError, match=r"judged with LPIPS .*, now it is GMSD"):
        score_round(workspace, experiment, 0)
