"""An experiment is read, changed and written without loss; every wrong key or value is named, with the nearest one."""

import pytest

from lora_core.errors import ConfigError
from lora_core.experiment import (
    Experiment,
    apply_overrides,
    load_experiment,
    load_preset,
    parse_experiment,
    save_experiment,
    value_at,
    with_values,
)
from lora_core.settings import known_keys

PRESETS = ("pocket", "restoration", "baseline")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip_through_yaml(name, tmp_path):
    experiment = load_preset(name)
    save_experiment(experiment, tmp_path / "experiment.yaml")
    assert load_experiment(tmp_path / "experiment.yaml") == experiment


def test_baseline_is_the_seed_recipe():
    e = load_preset("baseline")
    assert (e.adapter.rank, e.adapter.alpha, e.training.learning_rate) == (128, 64, 5e-6)
    assert (e.training.text_encoder_learning_rate, e.training.optimizer, e.training.batch) == (1e-6, "adamw8bit", 1)
    assert (e.training.scheduler, e.training.epochs, e.training.checkpoint_every) == ("cosine_with_restarts", 20, 5)
    assert (e.sweep.strengths, e.sweep.start_noises) == ((0.5, 0.6, 0.7), (1.0,))


def test_overrides_read_numbers_lists_and_empty_values():
    settings = ["training.learning_rate=1e-5", "sweep.strengths=[0.05, 0.2]", "data.test_size=null", "name=mine"]
    changed = apply_overrides(load_preset("pocket"), settings)
    assert changed.training.learning_rate == 1e-5
    assert (changed.sweep.strengths, changed.data.test_size, changed.name) == ((0.05, 0.2), None, "mine")
    assert with_values(changed, {"adapter.rank": 8}).adapter.rank == value_at(changed, "adapter.rank") // 4 == 8


@pytest.mark.parametrize(("setting", "reason"), [
    ("training.learning_rat=1", "did you mean 'training.learning_rate'"),
    ("learning_rate=1", "did you mean 'training.learning_rate'"),
    ("training.epochs=0", r"training.epochs: .*greater than or equal to 1 \(given: 0\)"),
    ("training.epochs=many", "training.epochs: .*integer"),
    ("training.learning_rate=nan", "training.learning_rate: .*finite"),
    ("sweep.strengths=[0.0]", r"0.0 is outside \(0, 1\]"),
    ("sweep.strengths=[0.5, 1.5]", r"1.5 is outside \(0, 1\]"),
    ("sweep.strengths=[]", "sweep.strengths"),
    ("sweep.strengths=[0.5, 0.5]", "given twice"),
    ("sweep.start_noises=[-0.1]", r"-0.1 is outside \[0, 1\]"),
    ("objective.kind=naive", "objective.kind: .*'bridge-ancestral', 'direct' or 'denoise'"),
    ("name=../escape", "name: .*pattern"),
    ("data.resolution=100", "data.resolution: .*multiple of 8"),
    ("scoring.psnr_weight=-1", "scoring.psnr_weight"),
    ("training.epochs", "section.key=value"),
    ("training.epochs=[", "--set training.epochs"),
])  # fmt: skip
def test_a_wrong_override_is_named(setting, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        apply_overrides(load_preset("pocket"), [setting])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("values", "reason"), [
    ({"trainig": {}}, "unknown key 'trainig'"),
    ({"training": {"epoch": 3}}, r"unknown key 'training.epoch'; did you mean 'training.epochs'"),
    ({"training": 3}, "training"),
    ({"tuning": {"dimensions": [{"key": "training.lr", "low": 1, "high": 2}]}}, "unknown key 'training.lr'"),
    ({"tuning": {"dimensions": [{"key": "training.epochs", "low": 5, "high": 2}]}}, "low must be below high"),
    ({"tuning": {"dimensions": [{"key": "training.epochs", "low": 0, "high": 2, "log": True}]}}, "low above 0"),
    ({"tuning": {"dimensions": [{"key": "objective.kind"}]}}, "either low and high, or choices"),
    ({"tuning": {"dimensions": [{"key": "degradation.preset", "choices": ["light"]}]}}, "compared by"),
    ({"training": {"scheduler": "piecewise_constant", "rate_steps": "0.5:1"}}, "rise from above 0 to 1"),
    ({"training": {"scheduler": "piecewise_constant", "rate_steps": "half"}}, "is not share:factor"),
    ({"training": {"scheduler": "piecewise_constant", "rate_steps": "1:2"}}, "between 0 and 1"),
    ({"scoring": {"psnr_weight": 0, "ssim_weight": 0, "perceptual_weight": 0}}, "all weights are 0"),
])  # fmt: skip
def test_a_wrong_file_is_named(values, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        parse_experiment(values, "mine.yaml")
    assert str(error.value).startswith("mine.yaml: ")


@pytest.mark.parametrize("content", ["- a list", "just text", "a: [", "", "\x00"])
def test_a_file_that_is_no_experiment_is_named(content, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_experiment(path)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_experiment(tmp_path / "missing.yaml")


def test_unknown_presets_are_named_and_every_key_is_settable():
    with pytest.raises(ConfigError, match="did you mean 'pocket'"):
        load_preset("pockett")
    assert {"name", "training.epochs", "tuning.dimensions"} <= set(known_keys(Experiment))


def test_a_digest_follows_its_sections_alone():
    one, other = load_preset("pocket"), apply_overrides(load_preset("pocket"), ["scoring.psnr_weight=2"])
    assert one.digest_of("training", "data") == other.digest_of("training", "data")
    assert one.digest_of("scoring") != other.digest_of("scoring")
