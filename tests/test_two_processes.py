"""Two processes with half the batch each train the LoRA that one process trains."""

import torch

from lora_core.experiment import apply_overrides, load_experiment
from lora_core.lora import load_lora
from lora_core.preparation import prepare
from lora_core.training.launch import train_round
from tests.test_interrupted_round import make_workspace


def test_two_processes_train_what_one_trains(tmp_path, miniature, photos, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    weights = []
    for processes, batch in ((1, 4), (2, 2)):
        workspace = make_workspace(tmp_path / str(processes), miniature, photos)
        settings = [f"training.processes={processes}", f"training.batch={batch}", "training.epochs=1"]
        experiment = apply_overrides(load_experiment(workspace.experiment), [*settings, "sweep.start_noises=[0.5]"])
        prepare(workspace, experiment)
        done = train_round(workspace, experiment, 0)
        weights.append(load_lora(workspace.study("mini").round(0).root / done["checkpoints"][0]["diffusers"]).tensors)
    one, two = weights
    assert one.keys() == two.keys() and any(value.any() for name, value in one.items() if "lora_B" in name)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=0)
