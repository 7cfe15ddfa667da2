"""Pictures a second of the sweep on a GPU: Stable Diffusion 1.5 at full size with random weights, 512 x 512.

    python tests/benchmarks/gpu_sweep.py [--batches 4 8 16] [--photos 16]

Denoising strength 0.5 of 20 inference steps, which are 10 denoiser evaluations, no guidance, a LoRA of rank 16 beside
the bf16 weights; from encoded photographs to PNG files. Printed for every batch: pictures/s and peak memory; the goal
is 10 pictures/s. `--miniature --device cpu` runs the same code where there is no GPU; its numbers mean nothing.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from gpu_training import random_base

from lora_core.bases.base import Base
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.lora import attach
from lora_core.merging import merged
from lora_core.restoration import denoisings_of
from lora_core.share import WHOLE, Turns
from lora_core.sweep.grid import Checkpoint, make_cells
from lora_core.sweep.inputs import encode_inputs
from lora_core.sweep.painter import Painter
from lora_core.training.memory import release, used_memory
from lora_core.workspace import StudyFolder

GOAL = 10.0
SETTINGS = [
    "base.precision=bf16", "adapter.rank=16", "adapter.alpha=16", "adapter.layers=attention-ff",
    "sweep.strengths=[0.5]", "sweep.steps=[10]", "sweep.start_noises=[1.0]", "sweep.detail_returns=[0.0]",
]  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--miniature", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, bf16, 512 x 512, strength 0.5 of 20 steps; goal: {GOAL:g} pictures/s")
    base, experiment = whole_base(options), apply_overrides(load_preset("pocket"), SETTINGS)
    adapter = attach(base, experiment.adapter, 0)
    print(f"{'batch':>6} {'pictures/s':>11} {'GiB':>6}")
    for batch in options.batches:
        with merged(adapter):
            run(base, experiment, batch, options.photos)  # warms up
            speed = run(base, experiment, batch, options.photos)
        print(f"{batch:6} {speed:11.2f} {used_memory(base.device) / 1024:6.2f}", flush=True)
        release()


def run(base: Base, experiment: Experiment, batch: int, photos: int) -> float:
    """Pictures a second."""
    drawn = np.random.default_rng(0)
    pictures = {f"photo-{number}": drawn.integers(0, 256, (512, 512, 3), dtype=np.uint8) for number in range(photos)}
    checkpoint = Checkpoint(1, "random", Path())
    cells = make_cells([checkpoint], denoisings_of(base.scheduler_config, experiment.sweep), experiment, "benchmark")
    text = torch.randn(2, 77, base.unet.config.cross_attention_dim, device=base.device)
    inputs = encode_inputs(base, pictures, batch)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        study = StudyFolder(Path(folder))
        painter = Painter(study, base, 0, batch, Turns(WHOLE, 1), lambda _: None, study.root)
        painter.paint(painter.missing(cells, inputs), text)
        return photos * len(cells) / (time.perf_counter() - began)


def whole_base(options: Any) -> Base:
    """The benchmark's UNet with an autoencoder of full size."""
    base = random_base(options.miniature, torch.device(options.device))
    channels = (32, 32, 32, 32) if options.miniature else (128, 256, 512, 512)
    with base.device:
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=channels,
            layers_per_block=2,
            sample_size=512,
        )
    return replace(base, vae=vae.to(memory_format=torch.channels_last).requires_grad_(False).eval())


if __name__ == "__main__":
    main()
