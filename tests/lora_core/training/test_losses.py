"""Distances, weights, noise: each against its own formula; losses by timestep add up."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler

from lora_core.experiment import ObjectiveSection
from lora_core.objectives import Forecast, NoiseSchedule, bridge_ancestral
from lora_core.randomness import torch_generator
from lora_core.training.losses import TimestepBins, distance_of, latent_loss, weighting_of
from lora_core.training.noise import draw_noise

ABAR = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
EPSILON, VELOCITY = NoiseSchedule(ABAR, "epsilon"), NoiseSchedule(ABAR, "v_prediction")
ANSWER, TARGET = torch.tensor([0.0, 0.05, 1.0]), torch.zeros(3)


@pytest.mark.parametrize(("loss", "expected"), [
    ("l2", [0.0, 0.0025, 1.0]),
    ("l1", [0.0, 0.05, 1.0]),
    ("huber", [0.0, 0.0025, 2 * 0.1 * (1.0 - 0.05)]),  # square below delta = 0.1, straight above
])  # fmt: skip
def test_distances(loss, expected):
    torch.testing.assert_close(distance_of(ObjectiveSection(loss=loss))(ANSWER, TARGET), torch.tensor(expected))


def test_debiased_weights_are_one_over_the_root_of_the_signal_to_noise_ratio():
    t = torch.tensor([1, 200, 900])
    snr = (ABAR[t] / (1 - ABAR[t])).clamp(max=1000)
    weigh = weighting_of(ObjectiveSection(weighting="debiased"))
    torch.testing.assert_close(weigh(EPSILON, t).flatten(), snr.rsqrt())
    # An error e of x0 is one of e / sigma of the noise and of e / sqrt(1 - abar) of v: both losses are the same.
    error = torch.tensor(0.1)
    sigma, share = EPSILON.sigma(t).flatten(), (1 - ABAR[t]).sqrt()
    torch.testing.assert_close(
        weigh(VELOCITY, t).flatten() * (error / share).square(), weigh(EPSILON, t).flatten() * (error / sigma).square()
    )
    assert torch.equal(weighting_of(ObjectiveSection(weighting="none"))(EPSILON, t), torch.ones(3, 1, 1, 1))


def test_a_mask_weights_places_and_a_white_one_changes_nothing():
    made = Forecast(torch.ones(2, 4, 2, 2), torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 2, 2))
    weights, square = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), distance_of(ObjectiveSection())
    half = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).expand(2, 1, 2, 2)
    assert latent_loss(made, weights, square, None).tolist() == [1.0, 3.0]
    assert latent_loss(made, weights, square, torch.ones(2, 1, 2, 2)).tolist() == [1.0, 3.0]
    assert latent_loss(made, weights, square, half).tolist() == [0.5, 1.5]


def test_bins_hold_the_means_of_what_was_met_and_start_anew():
    bins = TimestepBins(1000, torch.device("cpu"))
    bins.add(torch.tensor([0, 99, 100, 999]), torch.tensor([1.0, 3.0, 5.0, 7.0]))
    bins.add(torch.tensor([50]), torch.tensor([5.0]))
    assert bins.take() == {"0-99": 3.0, "100-199": 5.0, "900-999": 7.0}
    assert bins.take() == {}


def test_noise_has_the_shift_and_the_grain_that_were_asked_for():
    shape = (4, 64, 64)
    plain = draw_noise(shape, ObjectiveSection(), torch_generator(1))
    assert torch.equal(plain, torch.randn(shape, generator=torch_generator(1)))
    shifts = torch.stack(
        [draw_noise(shape, ObjectiveSection(noise_offset=0.5), torch_generator(n)).mean((1, 2)) for n in range(64)]
    )
    assert shifts.std().item() == pytest.approx(0.5, rel=0.15)
    pyramid = draw_noise(shape, ObjectiveSection(pyramid_noise=0.8), torch_generator(1))
    assert pyramid.std().item() == pytest.approx(1, abs=1e-5)
    neighbours = lambda noise: (noise[:, :, 1:] * noise[:, :, :-1]).mean().item()  # noqa: E731
    assert abs(neighbours(plain)) < 0.05 < 0.3 < neighbours(pyramid)


@pytest.mark.parametrize("kappa", [0.0, 0.7])
def test_ancestral_steps_walk_the_ancestral_bridge(kappa):
    """k-diffusion's ancestral Euler step with eta 1: down to sigma_s^2 / sigma, then fresh noise up to sigma_s."""
    clean, degraded, noise = (torch.randn(2, 4, 4, 4, generator=torch_generator(n)) for n in range(3))
    sigmas = torch.tensor([4.0, 2.5, 1.0, 0.3])
    mean, variance = degraded.clone(), (kappa * sigmas[0]) ** 2
    for here, there in pairwise(sigmas):
        down = there**2 / here
        mean = clean + down / here * (mean - clean)
        variance = variance * (down / here) ** 2 + kappa**2 * (there**2 - down**2)
        point = bridge_ancestral(clean, degraded, noise, there, sigmas[0], torch.tensor(kappa))
        torch.testing.assert_close(point.y - kappa * there * noise, mean, atol=1e-5, rtol=0)
        assert variance.sqrt().item() == pytest.approx(kappa * there.item(), abs=1e-5)
        torch.testing.assert_close(point.y - there * point.eps, clean, atol=1e-5, rtol=0)
