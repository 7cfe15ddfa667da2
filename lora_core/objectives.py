"""What the LoRA learns: the equations that make img2img land on the clean photograph.

Notation: z_c clean latents, z_d degraded latents, abar the cumulative product of alphas, and in the coordinates of
Karras et al. (2022) y_t = x_t / sqrt(abar_t), sigma_t = sqrt((1 - abar_t) / abar_t). A restoration starts at timestep T
from y_T = z_d + kappa sigma_T eps (kappa: start noise in [0, 1]) and must end at y_0 = z_c, while every sampler takes
x0 = y_t - sigma_t eps_hat. Each objective says where y_t lies and which eps_hat leads from there to z_c:

    denoise   y_t = z_c + sigma_t eps                                           eps
    bridge    y_t = z_c + (sigma_t / sigma_T)(z_d - z_c) + kappa sigma_t eps    kappa eps + (z_d - z_c) / sigma_T
    direct    y_t = z_d + kappa sigma_t eps                                     kappa eps + (z_d - z_c) / sigma_t
    bridge-ancestral: as bridge with (sigma_t / sigma_T)^2 in place of sigma_t / sigma_T in y_t

`bridge` is the straight line that DDIM and Euler walk (the OT-ODE of I2SB, Liu et al. 2023); `bridge-ancestral` is the
mean path of ancestral samplers (ResShift, Yue et al. 2023); `direct` with kappa 0 is the noise-free residual of OSEDiff
and PiSA-SR. The classic mistake, `naive`, noises z_d and keeps the plain target eps: its optimum is x0 = z_d, it learns
to keep the degradation. It is here so that a test can show it.

All tensors are float32; latents are (batch, channels, height, width); per-sample scalars broadcast as (batch, 1, 1, 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """A point of a restoration's path and what the model should answer there.

    Attributes:
        y: y_t, float32 (batch, channels, height, width).
        eps: the noise prediction that leads to the clean latents, same shape.
    """

    y: Tensor
    eps: Tensor


class Objective(Protocol):
    """(z_c, z_d, eps, sigma_t, sigma_T, kappa) to a point."""

    def __call__(
        self, clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor
    ) -> Point:
        """The point at noise level `sigma` of a path that starts at noise level `start`."""


def denoise(clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor) -> Point:
    """Plain denoising of the clean latents (Ho et al. 2020, equation 14); the degraded half is not looked at."""
    return Point(clean + sigma * eps, eps)


def bridge(clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor) -> Point:
    """A straight line from degraded to clean: self-consistent over any number of DDIM or Euler steps."""
    residual = degraded - clean
    return Point(clean + sigma / start * residual + kappa * sigma * eps, kappa * eps + residual / start)


def bridge_ancestral(
    clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor
) -> Point:
    """The residual fades with the square of the noise level, as it does under ancestral samplers."""
    residual, eta = degraded - clean, (sigma / start).square()
    return Point(clean + eta * residual + kappa * sigma * eps, kappa * eps + eta / sigma * residual)


def direct(clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor) -> Point:
    """The whole residual in one step from any timestep."""
    return Point(degraded + kappa * sigma * eps, kappa * eps + (degraded - clean) / sigma)


def naive(clean: Tensor, degraded: Tensor, eps: Tensor, sigma: Tensor, start: Tensor, kappa: Tensor) -> Point:
    """The classic mistake; not offered by any experiment."""
    return Point(degraded + kappa * sigma * eps, kappa * eps)


OBJECTIVES: dict[str, Objective] = {
    "denoise": denoise,
    "bridge": bridge,
    "bridge-ancestral": bridge_ancestral,
    "direct": direct,
}


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process of the base model.

    Attributes:
        alphas_cumprod: abar, float32 (timesteps,), falling from near 1 to near 0.
        prediction_type: what the UNet answers.
    """

    alphas_cumprod: Tensor
    prediction_type: str

    def sigma(self, timesteps: Tensor) -> Tensor:
        """sigma_t, float32 (batch, 1, 1, 1); `timesteps` int64 (batch,)."""
        abar = self._abar(timesteps)
        return ((1 - abar) / abar).sqrt()

    def model_input(self, y: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) y_t."""
        return self._abar(timesteps).sqrt() * y

    def target(self, point: Point, timesteps: Tensor) -> Tensor:
        """The answer in the base's own terms: eps, or v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho 2022)."""
        if self.prediction_type == "epsilon":
            return point.eps
        abar = self._abar(timesteps)
        x0 = point.y - self.sigma(timesteps) * point.eps
        return abar.sqrt() * point.eps - (1 - abar).sqrt() * x0

    def noise(self, answer: Tensor, model_input: Tensor, timesteps: Tensor) -> Tensor:
        """The noise that an answer of the base means: the answer itself, or sqrt(abar) v + sqrt(1 - abar) x_t."""
        if self.prediction_type == "epsilon":
            return answer
        abar = self._abar(timesteps)
        return abar.sqrt() * answer + (1 - abar).sqrt() * model_input

    def weight(self, timesteps: Tensor, gamma: float | None) -> Tensor:
        """min(SNR, gamma) / SNR for a noise prediction, / (SNR + 1) for v (Hang et al. 2023); 1 without gamma.

        On the shifted targets of `bridge` and `direct` this is the clipped error of x0; unweighted they explode
        as sigma falls to 0.
        """
        sigma = self.sigma(timesteps)
        if gamma is None:
            return torch.ones_like(sigma)
        snr = sigma.pow(-2)
        return snr.clamp(max=gamma) / (snr if self.prediction_type == "epsilon" else snr + 1)

    def debiased_weight(self, timesteps: Tensor) -> Tensor:
        """1 / sqrt(SNR) for a noise prediction (Yu et al. 2023, arXiv:2310.08442), SNR / (SNR + 1) of it for v.

        SNR is cut at 1000, so that the last timesteps keep some weight. float32 (batch, 1, 1, 1).
        """
        snr = self.sigma(timesteps).pow(-2).clamp(max=1000)
        weight = snr.rsqrt()
        return weight if self.prediction_type == "epsilon" else weight * snr / (snr + 1)

    def _abar(self, timesteps: Tensor) -> Tensor:
        return self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Forecast:
    """What the model answered at points of restorations' paths, and what it should have answered.

    Attributes:
        answer: the UNet's, float32 (batch, channels, height, width), in the base's own terms (epsilon or v).
        target: same shape and terms.
        x0: the clean latents that the answer means, x0 = y_t - sigma_t eps_hat; same shape.
    """

    answer: Tensor
    target: Tensor
    x0: Tensor


def forecast(
    predict: Callable[[Tensor, Tensor], Tensor],
    objective: Objective,
    schedule: NoiseSchedule,
    clean: Tensor,
    degraded: Tensor,
    eps: Tensor,
    timesteps: Tensor,
    starts: Tensor,
    kappa: Tensor,
) -> Forecast:
    """Asks the model where the objective says.

    Args:
        predict: (x_t, timesteps) to the UNet's answer.
        eps: standard normal noise, shape of the latents.
        timesteps: t, int64 (batch,).
        starts: T of each sample, int64 (batch,), t <= T.
        kappa: start noise in [0, 1], float32 (batch,).
    """
    sigma, start = schedule.sigma(timesteps), schedule.sigma(starts)
    point = objective(clean, degraded, eps, sigma, start, kappa.view(-1, 1, 1, 1))
    model_input = schedule.model_input(point.y, timesteps)
    answer = predict(model_input, timesteps).float()
    x0 = point.y - sigma * schedule.noise(answer, model_input, timesteps)
    return Forecast(answer, schedule.target(point, timesteps), x0)
