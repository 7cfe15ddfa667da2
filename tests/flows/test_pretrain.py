"""The flow of a base training: from drawn shapes to a base, its report, and a LoRA trained on top."""

import shutil

import pytest

from flows.pretrain import pretrain_flow
from lora_core.errors import ConfigError, DataError
from lora_core.files import read_json
from lora_core.images import list_photos
from lora_core.pretraining.recipe import load_recipe, recipe_from
from lora_core.pretraining.work import BaseWork
from lora_core.settings import save_settings
from tests.lora_core.pretraining.test_training import TINY

ROUND = (
    "data.resolution=64",
    "data.test_size=64",
    "data.views=1",
    "training.epochs=1",
    "training.checkpoint_every=1",
    "sweep.strengths=[0.1]",
    "sweep.detail_returns=[1.0]",
    "adapter.rank=2",
)


@pytest.fixture
def recipe_file(tmp_path, photos):
    for number, path in enumerate(list_photos(photos)):
        folder = tmp_path / ("train" if number < 5 else "test")
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder)
    evaluation = {
        "restoration_train": str(tmp_path / "train"),
        "restoration_test": str(tmp_path / "test"),
        "restoration_settings": ROUND,
    }
    recipe = recipe_from({**TINY, "evaluation": {**TINY["evaluation"], **evaluation}}, "test")
    save_settings(recipe, tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"


def test_the_flow_makes_a_base_judges_it_and_is_found_done(prefect_harness, recipe_file, tmp_path):
    work = BaseWork(tmp_path / "work")
    result = pretrain_flow(
        work.root, recipe_file, overrides=("evaluation.restoration_train=null", "evaluation.restoration_test=null")
    )
    assert result["stopped"] == "complete" and result["evaluation"]["psnr_rgb"] > 5
    page = work.report.read_text("utf-8")
    assert "tiny" in page and "data:image" in page
    stamp = work.unet.done.stat().st_mtime_ns
    pretrain_flow(work.root)
    assert work.unet.done.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"begun with another recipe \(training.learning_rate 0\.02 -> 0\.5\)"):
        pretrain_flow(work.root, overrides=("training.learning_rate=0.5",))
    assert load_recipe(work.recipe).training.learning_rate == 0.02


def test_the_gain_of_a_lora_on_top_is_noted(prefect_harness, recipe_file, tmp_path):
    work = BaseWork(tmp_path / "work")
    pretrain_flow(work.root, recipe_file, overrides=("training.epochs=1",))
    restoration = read_json(work.evaluation)["restoration"]
    assert restoration["photos"] == 3 and isinstance(restoration["gain_psnr_y"], float)
    assert "A restoration LoRA trained on it gains" in (work.base / "README.md").read_text("utf-8")


def test_a_source_that_is_missing_ends_the_flow_before_any_training(prefect_harness, recipe_file, tmp_path):
    with pytest.raises(DataError, match=r"data\.path"):
        pretrain_flow(tmp_path / "work", recipe_file, overrides=("data.source=coco", "data.path=/nowhere"))
    assert not (tmp_path / "work" / "unet").exists()
