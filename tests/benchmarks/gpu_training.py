"""Training speed on a GPU: Stable Diffusion 1.5 at full size with random weights, 512 x 512, cached latents.

    python tests/benchmarks/gpu_training.py [--batches 1 8 32] [--ranks 16 128] [--updates 20]

Random weights cost what trained ones cost. Printed for every rank and batch, compiled and not: images/s of whole
weight updates (forward, backward, clipping, AdamW), the share of the card's own matrix rate, measured in the same run,
that the step reaches, peak memory, and the ratio to 5.5 images/s (SD 1.5 LoRA rank 16, batch 1, H100; SimpleTuner's
documentation). The flops are counted by torch on one forward and backward pass. `--miniature --device cpu` runs the
same code where there is no GPU; its numbers mean nothing. `--eager` leaves the compiled half out.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from lora_core.bases.base import Base
from lora_core.data.pairs import Pair
from lora_core.data.views import Rows
from lora_core.experiment import apply_overrides, load_preset
from lora_core.lora import attach
from lora_core.objectives import OBJECTIVES, NoiseSchedule
from lora_core.restoration import starts_of
from lora_core.training.batches import BatchMaker
from lora_core.training.fused import fuse
from lora_core.training.loop import Hooks, Run
from lora_core.training.losses import distance_of, weighting_of
from lora_core.training.memory import release, used_memory
from lora_core.training.optimiser import make_optimiser, make_schedule
from lora_core.training.plan import Plan
from lora_core.training.state import RunState
from lora_core.training.terms import Paired

PUBLISHED = 5.5
GOALS = "goals: 40 % of the matrix rate at batch 32; 10 times the published 5.5 images/s"
SD15 = {
    "sample_size": 64,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}


@dataclass(frozen=True)
class RandomViews:
    """Latents of the real shape, in memory."""

    latents: torch.Tensor

    def rows(self, samples: Sequence[tuple[int, int]]) -> Rows:
        """As `ViewSource.rows`."""
        chosen = self.latents[[pair for pair, _ in samples]]
        return Rows(chosen, chosen + 0.1, None)


def main() -> None:
    """Measures every combination and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    rate = matrix_rate(options.device)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, bf16, matrix rate {rate / 1e12:.2f} TFLOP/s; {GOALS}")
    print(f"{'rank':>5} {'batch':>6} {'compiled':>9} {'images/s':>9} {'of matrix rate':>15} {'GiB':>6} {'to 5.5/s':>9}")
    for rank in options.ranks:
        for batch in options.batches:
            for compiled in (False,) if options.eager else (False, True):
                speed, share, memory = measure(options, rank, batch, compiled, rate)
                print(
                    f"{rank:5} {batch:6} {compiled!s:>9} {speed:9.2f} {share:15.1%} {memory / 1024:6.2f} "
                    f"{speed / PUBLISHED:9.2f}",
                    flush=True,
                )


def measure(options: Any, rank: int, batch: int, compiled: bool, rate: float) -> tuple[float, float, float]:
    """Images/s, share of the matrix rate, and peak MiB of one setting."""
    run = make_run(options, rank, batch, compiled)
    device = run.accelerator.device
    with FlopCounterMode(display=False) as counter:
        run.attempt(batch)
    marks = []

    def observe(number: int, *_: Any) -> None:
        if number in (run.plan.updates - options.updates, run.plan.updates):
            if device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(time.monotonic())

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    nothing = lambda *_: None  # noqa: E731
    run.fit(Hooks(observe, nothing, nothing, nothing))
    speed = options.updates * batch / (marks[1] - marks[0])
    release()
    return speed, speed * counter.get_total_flops() / batch / rate, used_memory(device)


def make_run(options: Any, rank: int, batch: int, compiled: bool) -> Run:
    """A run over random latents; its first updates, past the measured ones, warm up."""
    settings = [
        "base.precision=bf16", f"adapter.rank={rank}", f"adapter.alpha={rank}", "adapter.layers=attention-ff",
        "data.resolution=512", f"training.batch={batch}", f"training.epochs={options.updates + 8}",
        "data.prompt=a photo", "monitoring.validation_photos=0", "objective.timesteps=uniform",
    ]  # fmt: skip
    experiment = apply_overrides(load_preset("pocket"), settings)
    accelerator = Accelerator(cpu=options.device == "cpu")
    base = random_base(options.miniature, accelerator.device)
    adapter = attach(base, experiment.adapter, seed=0)
    base.unet.train()
    fuse(adapter)
    if compiled:
        base.unet.compile(dynamic=False)
    pairs = [Pair(str(number), f"{number}.png", f"d/{number}.png") for number in range(batch)]
    plan = Plan.of(experiment, pairs)
    generator = torch.Generator().manual_seed(0)
    views = RandomViews(torch.randn(len(pairs), 4, 64, 64, generator=generator))
    text = torch.randn(1, 77, base.unet.config.cross_attention_dim, generator=generator).to(base.device)
    starts = starts_of(base.scheduler_config, experiment.sweep)
    batches = BatchMaker(
        experiment, plan, views, [""] * len(pairs), lambda captions: lambda: text.expand(len(captions), -1, -1),
        starts, base.device,
    )  # fmt: skip
    optimiser = make_optimiser(adapter, experiment.training)
    schedule = make_schedule(optimiser, experiment.training, plan.updates)
    paired = Paired(
        adapter, OBJECTIVES["direct"], weighting_of(experiment.objective), distance_of(experiment.objective)
    )
    state = RunState("benchmark", adapter, accelerator.prepare(optimiser), schedule)
    return Run(experiment, plan, [paired], batches, None, adapter, state, accelerator)


def random_base(miniature: bool, device: torch.device) -> Base:
    """Stable Diffusion 1.5's UNet in bf16; autoencoder and text encoder are small: nothing asks them."""
    config = SD15 | ({"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32} if miniature else {})
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    with device:
        unet = UNet2DConditionModel(**config).to(torch.bfloat16, memory_format=torch.channels_last)
    text = CLIPTextConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    return Base(
        vae=AutoencoderKL(block_out_channels=(32,)),
        unet=unet.requires_grad_(False).eval(),
        text_encoder=CLIPTextModel(text).requires_grad_(False),
        tokenizer=None,
        scheduler_config=dict(scheduler.config),
        schedule=NoiseSchedule(scheduler.alphas_cumprod.to(device), "epsilon"),
        factor=8,
        multiple=64,
        device=device,
        dtype=torch.bfloat16,
    )


@cache
def matrix_rate(device: str) -> float:
    """Flops a second of a large bf16 matrix product, the best of five."""
    side, best = (8192 if device == "cuda" else 1024), 0.0
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        started = time.monotonic()
        for _ in range(4):
            one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 4 * 2 * side**3 / (time.monotonic() - started))
    return best


if __name__ == "__main__":
    main()
