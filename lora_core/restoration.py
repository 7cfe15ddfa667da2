"""Restoration by img2img: from degraded latents at a start timestep down to clean ones.

It is the arithmetic of diffusers' img2img pipeline on a batch, with two dials that the pipeline lacks. The *start
noise* kappa scales the noise that is added to the degraded latents: 1 is img2img as web UIs do it, 0 adds none. The
*detail return* lambda gives back what the autoencoder dropped from the input,

    x_out = D(z_0) + lambda (x_in - D(E(x_in))),

so that with lambda 1 doing nothing returns the input exactly.

`steps` counts denoiser evaluations. The web UIs' setting (diffusers' `num_inference_steps`) follows from it: the
smallest n with int(n * strength) = steps; the start timestep is read off the scheduler's own grid of n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from lora_core.bases.base import Base
from lora_core.denoising import Denoising, Start
from lora_core.errors import ConfigError
from lora_core.experiment import SweepSection

_SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpm++": DPMSolverMultistepScheduler}


def make_scheduler(config: dict[str, Any], sampler: str, spacing: str | None) -> Any:
    """A sampler on the base's noise schedule."""
    changes = {"timestep_spacing": spacing} if spacing else {}
    return _SCHEDULERS[sampler].from_config(config, **changes)


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


def denoisings_of(config: dict[str, Any], sweep: SweepSection) -> list[Denoising]:
    """Every denoising of the sweep's grid. Raises as `find_start`."""
    made = []
    for sampler in sweep.samplers:
        scheduler = make_scheduler(config, sampler, sweep.timestep_spacing)
        starts = [find_start(scheduler, strength, steps) for strength in sweep.strengths for steps in sweep.steps]
        made += [
            Denoising(start, noise, sampler, guidance, sweep.timestep_spacing, seed)
            for guidance in sweep.guidance_scales
            for start in starts
            for noise in sweep.start_noises
            for seed in (sweep.seeds if noise else sweep.seeds[:1])  # without noise all seeds give one picture
        ]
    return made


def starts_of(config: dict[str, Any], sweep: SweepSection) -> list[Start]:
    """Every start that the sweep visits. Raises as `find_start`."""
    return list(dict.fromkeys(one.start for one in denoisings_of(config, sweep)))


@torch.no_grad()
def restore_latents(
    base: Base, degraded: Tensor, text: Tensor, denoisings: Sequence[Denoising], noise: Tensor
) -> Tensor:
    """Runs the sampler from the degraded latents.

    Args:
        degraded: scaled latents, float32 (batch, channels, height, width).
        text: embeddings of the empty prompt and of the instruction, (2, tokens, width).
        denoisings: of each picture; what they have `together` is equal.
        noise: standard normal, shape of the latents.

    Returns:
        Restored latents, float32, same shape.
    """
    (first, *others), kappas = denoisings, torch.tensor([one.start_noise for one in denoisings], device=noise.device)
    assert all(one.together == first.together for one in others), "pictures of different walks in one batch"
    noise = kappas.view(-1, 1, 1, 1) * noise
    denoise = _Denoiser(base, text, first.guidance_scale, degraded)
    if first.sampler == "ddim":
        return _walk_ddim(denoise, torch.tensor([one.start.timesteps for one in denoisings]), noise)
    return _walk_scheduler(denoise, first, noise)


@dataclass(frozen=True)
class _Denoiser:
    """The UNet's answer with guidance (Ho & Salimans 2022, equation 6, in the form with 1 for none)."""

    base: Base
    text: Tensor
    guidance_scale: float
    degraded: Tensor

    def __call__(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        timesteps, (empty, prompt) = timesteps.expand(len(latents)), self.text
        prompts = prompt.expand(len(latents), -1, -1)
        if self.guidance_scale == 1:
            return self.base.predict(latents, timesteps, prompts, self.degraded)
        both = torch.cat([empty.expand(len(latents), -1, -1), prompts])
        twice = torch.cat([latents, latents]), timesteps.repeat(2), both, torch.cat([self.degraded, self.degraded])
        without, prompted = self.base.predict(*twice).chunk(2)
        return without + self.guidance_scale * (prompted - without)


def _walk_ddim(denoise: _Denoiser, timesteps: Tensor, noise: Tensor) -> Tensor:
    """DDIM without added noise (Song et al. 2021, equation 12), y_s = x0 + sigma_s eps, from visited timestep to next.

    diffusers' DDIM steps to t - 1000 // n instead, which misses the next timestep of its own grid, and noise level 0
    at the end, wherever 1000 is not a multiple of n; where it is, both agree.

    Args:
        timesteps: int64 (batch, steps), falling.
    """
    schedule = denoise.base.schedule
    columns = timesteps.to(noise.device).unbind(dim=1)
    sigmas = [schedule.sigma(column) for column in columns]
    y = denoise.degraded + sigmas[0] * noise
    for column, sigma, following in zip(columns, sigmas, [*sigmas[1:], torch.zeros_like(sigmas[0])], strict=True):
        model_input = schedule.model_input(y, column)
        eps = schedule.noise(denoise(model_input, column), model_input, column)
        y = y + (following - sigma) * eps
    return y


def _walk_scheduler(denoise: _Denoiser, how: Denoising, noise: Tensor) -> Tensor:
    """A scheduler of diffusers, from the start of its grid that img2img takes."""
    scheduler = make_scheduler(denoise.base.scheduler_config, how.sampler, how.spacing)
    scheduler.set_timesteps(how.start.num_inference_steps, device=denoise.base.device)
    begin = how.start.num_inference_steps - how.start.steps
    timesteps = scheduler.timesteps[begin:]
    scheduler.set_begin_index(begin)
    latents = scheduler.add_noise(denoise.degraded, noise, timesteps[:1].expand(len(noise)))
    for timestep in timesteps:
        answer = denoise(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(answer, timestep, latents).prev_sample
    return latents


def return_detail(decoded: Tensor, dropped: Tensor, share: float) -> Tensor:
    """x_out = D(z_0) + lambda (x_in - D(E(x_in))); `dropped` is the bracket, all float32 (batch, 3, height, width)."""
    return decoded + share * dropped


def padded(picture: np.ndarray, multiple: int) -> np.ndarray:
    """A (height, width, 3) uint8 picture, mirrored beyond the right and lower edge to sides that the UNet accepts."""
    bottom, right = (-side % multiple for side in picture.shape[:2])
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="symmetric") if bottom or right else picture
