"""What the flows' parameters mean."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.catalogue import SERVED
from flows.parameters import as_overrides, changes_in, settle, settle_round
from lora_core.errors import ConfigError
from lora_core.experiment import load_preset, save_experiment, value_at, with_values
from lora_core.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_experiment(with_values(load_preset("pocket"), {"training.epochs": 7}), Workspace(tmp_path).experiment)
    return tmp_path


def test_overrides_come_last(root: Path, tmp_path: Path) -> None:
    assert settle(root)[1].training.epochs == 7
    assert settle(root, preset="baseline")[1].name == "baseline"
    other = tmp_path / "other.yaml"
    save_experiment(load_preset("restoration"), other)
    assert settle(root, other, None, ["data.prompt=ein Foto"])[1].data.prompt == "ein Foto"
    with pytest.raises(ConfigError, match="exclude each other"):
        settle(root, other, "pocket")
    with pytest.raises(ConfigError, match=r"photo-enhancer init .*nowhere"):
        settle(tmp_path / "nowhere")


def test_a_round_that_was_begun_is_taken_as_it_was(root: Path) -> None:
    begun = Workspace(root).study("pocket").round(2).experiment
    save_experiment(with_values(load_preset("pocket"), {"adapter.rank": 8}), begun)
    assert settle_round(2, root)[1].adapter.rank == 8
    assert settle_round(1, root)[1].adapter.rank == 32
    assert settle_round(2, root, preset="pocket")[1].adapter.rank == 32


def test_changes_survive_the_way_through_a_form() -> None:
    changes = {
        "training.learning_rate": 1e-05,
        "adapter.rank": 16,
        "objective.kind": "bridge",
        "data.flip": False,
        "objective.weighting": "none",
        "sweep.strengths": [0.05, 1.0],
    }
    texts = tuple(as_overrides(changes))
    experiment = settle(Path("."), preset="pocket", overrides=texts)[1]
    assert changes_in(experiment, texts) == changes
    assert experiment == with_values(load_preset("pocket"), changes)
    assert value_at(experiment, "training.learning_rate") == 1e-05


def test_flows_import_no_torch() -> None:
    names = [served.name for served in SERVED]
    script = f"import sys\nfor name in {names}: __import__('flows.' + name)\nprint('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
