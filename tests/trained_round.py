"""A workspace whose first round is trained: real photographs, and checkpoints of random weights instead of training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.files import write_json
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.lora import attach, save_lora
from lora_core.preparation import prepare
from lora_core.workspace import Workspace


def trained_round(
    root: Path, base: Path, photos: Path, tests: int, settings: Sequence[str], checkpoints: int = 2
) -> tuple[Workspace, Experiment]:
    """Makes the workspace, ready to be swept.

    Args:
        root: its folder.
        base: a diffusers folder.
        photos: folder of photographs; where there are fewer than wanted, they come again turned.
        tests: how many are scored on; two more are trained on.
        settings: of the experiment, over the preset `pocket`.
        checkpoints: of round 0, from epoch 1.
    """
    workspace = Workspace(root)
    workspace.create()
    sources = [read_rgb(path) for path in list_photos(photos)]
    for number in range(tests + 2):
        folder = workspace.targets if number >= tests else workspace.test
        turned = np.rot90(sources[number % len(sources)], number // len(sources))
        write_png(folder / f"photo-{number}.png", np.ascontiguousarray(turned))
    experiment = apply_overrides(load_preset("pocket"), [f"base.model={base}", *settings])
    prepare(workspace, experiment)
    folder, rows = workspace.study(experiment.name).round(0), []
    adapter = attach(open_base(experiment.base), experiment.adapter, 0)
    for epoch in range(1, checkpoints + 1):
        for number, parameter in enumerate(adapter.parameters()):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02
        row = save_lora(adapter, folder.checkpoints / f"{experiment.name}-{epoch:06d}", {})
        rows.append({"epoch": epoch, **row})
    write_json(folder.training_done, {"checkpoints": rows})
    return workspace, experiment
