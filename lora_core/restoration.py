"""Restoration by img2img: from degraded latents at a start timestep down to clean ones.

It is the arithmetic of diffusers' img2img pipeline on a batch, with two dials that the pipeline lacks. The *start
noise* kappa scales the noise that is added to the degraded latents: 1 is img2img as web UIs do it, 0 adds none. The
*detail return* lambda gives back what the autoencoder dropped from the input,

    x_out = D(z_0) + lambda (x_in - D(E(x_in))),

so that with lambda 1 doing nothing returns the input exactly.

`steps` counts denoiser evaluations. The web UIs' setting (diffusers' `num_inference_steps`) follows from it: the
smallest n with int(n * strength) = steps; the start timestep is read off the scheduler's own grid of n.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from lora_core.bases.base import Base
from lora_core.errors import ConfigError
from lora_core.experiment import SweepSection

_SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpm++": DPMSolverMultistepScheduler}


@dataclass(frozen=True)
class Start:
    """Where a restoration starts.

    Attributes:
        num_inference_steps: the web UIs' number of steps, for the whole grid.
        timesteps: the timesteps that are visited, falling; the first is the start timestep.
    """

    strength: float
    steps: int
    num_inference_steps: int
    timesteps: tuple[int, ...]


def make_scheduler(config: dict[str, Any], sweep: SweepSection) -> Any:
    """The sweep's sampler on the base's noise schedule."""
    changes = {"timestep_spacing": sweep.timestep_spacing} if sweep.timestep_spacing else {}
    return _SCHEDULERS[sweep.sampler].from_config(config, **changes)


def find_start(scheduler: Any, strength: float, steps: int) -> Start:
    """Reads the visited timesteps off the scheduler's grid, as diffusers' img2img does.

    Raises:
        ConfigError: the grid is too coarse for so many steps at so low a strength.
    """
    total = steps
    while int(total * strength) < steps:
        total += 1
    if total > scheduler.config.num_train_timesteps:
        raise ConfigError(
            f"sweep: {steps} steps at strength {strength} would need {total} inference steps, "
            f"the base has {scheduler.config.num_train_timesteps} timesteps; raise the strength or lower the steps"
        )
    scheduler.set_timesteps(total)
    visited = scheduler.timesteps[total - steps :]
    return Start(strength, steps, total, tuple(round(float(timestep)) for timestep in visited))


def starts_of(config: dict[str, Any], sweep: SweepSection) -> list[Start]:
    """Every start that the sweep visits. Raises as `find_start`."""
    scheduler = make_scheduler(config, sweep)
    return [find_start(scheduler, strength, steps) for strength in sweep.strengths for steps in sweep.steps]


@torch.no_grad()
def restore_latents(
    base: Base, degraded: Tensor, text: Tensor, start: Start, kappa: float, noise: Tensor, sweep: SweepSection
) -> Tensor:
    """Runs the sampler from the degraded latents.

    Args:
        degraded: scaled latents, float32 (batch, channels, height, width).
        text: embeddings (batch, tokens, width), or twice the batch with guidance: the empty prompt's first.
        kappa: start noise in [0, 1].
        noise: standard normal, shape of the latents.

    Returns:
        Restored latents, float32, same shape.
    """
    if sweep.sampler == "ddim":
        return _walk_ddim(base, degraded, text, start, kappa * noise, sweep.guidance_scale)
    scheduler = make_scheduler(base.scheduler_config, sweep)
    scheduler.set_timesteps(start.num_inference_steps, device=base.device)
    timesteps = scheduler.timesteps[start.num_inference_steps - start.steps :]
    scheduler.set_begin_index(start.num_inference_steps - start.steps)
    latents = scheduler.add_noise(degraded, kappa * noise, timesteps[:1].expand(len(degraded)))
    for timestep in timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        answer = _guided(base, model_input, timestep, text, sweep.guidance_scale, degraded)
        latents = scheduler.step(answer, timestep, latents).prev_sample
    return latents


def _walk_ddim(base: Base, degraded: Tensor, text: Tensor, start: Start, noise: Tensor, guidance: float) -> Tensor:
    """DDIM without added noise (Song et al. 2021, equation 12), y_s = x0 + sigma_s eps, from visited timestep to next.

    diffusers' DDIM steps to t - 1000 // n instead, which misses the next timestep of its own grid, and noise level 0
    at the end, wherever 1000 is not a multiple of n; where it is, both agree.
    """
    schedule = base.schedule
    timesteps = torch.tensor(start.timesteps, device=base.device)
    sigmas = [*schedule.sigma(timesteps), torch.zeros((), device=base.device)]
    y = degraded + sigmas[0] * noise
    for number, timestep in enumerate(timesteps):
        model_input = schedule.model_input(y, timestep[None])
        answer = _guided(base, model_input, timestep, text, guidance, degraded)
        eps = schedule.noise(answer, model_input, timestep[None])
        y = y + (sigmas[number + 1] - sigmas[number]) * eps
    return y


def return_detail(decoded: Tensor, dropped: Tensor, share: float) -> Tensor:
    """x_out = D(z_0) + lambda (x_in - D(E(x_in))); `dropped` is the bracket, all float32 (batch, 3, height, width)."""
    return decoded + share * dropped


def padded(picture: np.ndarray, multiple: int) -> np.ndarray:
    """A (height, width, 3) uint8 picture, mirrored beyond the right and lower edge to sides that the UNet accepts."""
    bottom, right = (-side % multiple for side in picture.shape[:2])
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="symmetric") if bottom or right else picture


def _guided(base: Base, latents: Tensor, timestep: Tensor, text: Tensor, scale: float, condition: Tensor) -> Tensor:
    if scale == 1.0:
        return base.predict(latents, timestep, text, condition)
    both = torch.cat([latents, latents]), timestep, text, torch.cat([condition, condition])
    empty, prompted = base.predict(*both).chunk(2)
    return empty + scale * (prompted - empty)
