"""Two processes with half the batch each train what one trains: synchronised, and with the base in shards."""

import pytest
import torch

from lora_core.experiment import apply_overrides, load_experiment
from lora_core.lora import load_lora
from lora_core.preparation import prepare
from lora_core.training.launch import train_round
from tests.small_round import make_workspace

COMMON = ("training.epochs=1", "sweep.start_noises=[0.5]", "monitoring.samples=0", "monitoring.validation_photos=3")


def train(root, miniature, photos, *settings):
    workspace = make_workspace(root, miniature, photos)
    experiment = apply_overrides(load_experiment(workspace.experiment), [*COMMON, *settings])
    prepare(workspace, experiment)
    done = train_round(workspace, experiment, 0)
    folder = workspace.study("mini").round(0)
    weights = load_lora(folder.root / done["checkpoints"][0]["diffusers"]).tensors
    return weights, [row["loss"] for row in done["validations"]]


@pytest.mark.parametrize("settings", [
    ("adapter.text_encoder=true",),
    ("adapter.text_encoder=false", "training.sharding=fsdp", "training.accumulation=2"),
], ids=["ddp", "fsdp"])  # fmt: skip
def test_two_processes_train_what_one_trains(tmp_path, miniature, photos, monkeypatch, settings):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = [one for one in settings if "sharding" not in one]
    one, curve = train(tmp_path / "1", miniature, photos, *alone, "training.batch=4")
    two, halved = train(tmp_path / "2", miniature, photos, *settings, "training.batch=2", "training.processes=2")
    assert one.keys() == two.keys() and any(value.any() for name, value in one.items() if "lora_B" in name)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=0)
    assert len(curve) == len(halved) >= 2 and halved == pytest.approx(curve, abs=1e-4)
