"""The rival that a pretrained base must be worth: a UNet of the same size, trained from scratch for the LoRA's time.

It has the base's architecture with fresh weights, all of them trained (AdamW, 1e-3, half a cosine over the time) to
take degraded latents to clean ones in one step by a squared error: plain regression. It sees the same cached
views, prompt and batch as the LoRA did, and its best detail return is taken.
"""

import math
import time
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from lora_core.bases import base_digest
from lora_core.bases.base import Base, to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base
from lora_core.data.latents import open_views
from lora_core.data.pairs import test_pairs, training_pairs
from lora_core.data.shapes import shapes_of
from lora_core.experiment import Experiment
from lora_core.images import read_rgb
from lora_core.perceptual import choose_perceptual
from lora_core.restoration import return_detail
from lora_core.scoring import composite, score_pair
from lora_core.training.plan import Plan
from lora_core.workspace import Workspace

TIMESTEP = 99
"""Where the regression reads the UNet; as good as any other, since nothing else is trained."""


def train_regression(workspace: Workspace, experiment: Experiment, seconds: float) -> tuple[Base, int]:
    """Trains the rival for so many seconds; returns the base that holds it and the images it saw."""
    torch.manual_seed(experiment.seed)
    base, pairs = open_base(experiment.base), training_pairs(workspace, experiment)
    base.unet = UNet2DConditionModel.from_config(base.unet.config).to(base.device, memory_format=torch.channels_last)
    shapes = shapes_of(workspace, experiment, pairs, base.multiple)
    cache = open_views(workspace, experiment, pairs, shapes, base, base_digest(experiment.base))
    plan, batch = Plan.of(experiment, pairs, shapes.index), experiment.training.batch
    with torch.no_grad():
        text = base.encode_prompt([experiment.data.prompt]).expand(batch, -1, -1)
    optimiser = torch.optim.AdamW(base.unet.parameters(), lr=experiment.training.learning_rate)
    started, images = time.monotonic(), 0
    while (part := (time.monotonic() - started) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = experiment.training.learning_rate * 0.5 * (1 + math.cos(math.pi * part))
        rows = cache.rows([plan.sample(place) for place in range(images, images + batch)])
        clean, degraded = rows.clean.to(base.device), rows.degraded.to(base.device)
        answer = restore(base, degraded, text)
        loss = (answer - clean).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.unet.parameters(), experiment.training.max_grad_norm)
        optimiser.step()
        images += batch
    return base, images


def restore(base: Base, degraded: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """z_d minus the predicted residual."""
    timestep = torch.tensor(TIMESTEP, device=base.device)
    latents = degraded.contiguous(memory_format=torch.channels_last)
    return degraded - base.predict(latents, timestep, text)


@torch.no_grad()
def score_regression(workspace: Workspace, experiment: Experiment, base: Base, row: dict[str, Any]) -> dict[str, Any]:
    """Mean scores of the rival at its best detail return; `row` is the input's row of the round's table."""
    study = workspace.study(experiment.name).root / "test"
    perceptual = choose_perceptual(experiment.scoring)
    text = base.encode_prompt([experiment.data.prompt])
    scores: dict[float, list[dict[str, float]]] = {share: [] for share in experiment.sweep.detail_returns}
    for pair in test_pairs(workspace, experiment):
        original, degraded = (read_rgb(study / half / f"{pair.name}.png") for half in ("original", "degraded"))
        height, width = (side - side % base.multiple for side in degraded.shape[:2])
        pixels = to_pixels(degraded[:height, :width][None])
        latents = base.encode(pixels)
        decoded, dropped = base.decode(restore(base, latents, text)), pixels - base.decode(latents)
        for share, rows in scores.items():
            restored = degraded.copy()
            restored[:height, :width] = to_rgb(return_detail(decoded, dropped, share))[0]
            rows.append(score_pair(restored, original, perceptual))
    best: dict[str, Any] = {}
    for share, rows in scores.items():
        means = {key: float(np.mean([one[key] for one in rows])) for key in ("psnr_y", "ssim_y", "perceptual")}
        gains = (
            means["psnr_y"] - row["psnr_y"],
            means["ssim_y"] - row["ssim_y"],
            1 - means["perceptual"] / row["perceptual"],
        )
        points = composite(*gains, experiment.scoring)
        if not best or points > best["composite"]:
            names = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual")
            best = {**means, **dict(zip(names, gains, strict=True)), "composite": points, "detail_return": share}
    return best
