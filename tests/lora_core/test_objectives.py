"""With an oracle in the denoiser's place every identity is exact: samplers walk the path an objective describes."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

from lora_core.denoising import Denoising
from lora_core.objectives import NoiseSchedule, bridge, denoise, direct, forecast, naive
from lora_core.restoration import find_start, make_scheduler, restore_latents, return_detail
from lora_core.training.losses import latent_loss

CONFIG = dict(DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).config)
del CONFIG["_use_default_values"]  # would undo the prediction type below
ABAR = DDIMScheduler.from_config(CONFIG).alphas_cumprod
EPSILON, VELOCITY = NoiseSchedule(ABAR, "epsilon"), NoiseSchedule(ABAR, "v_prediction")


def latents(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


CLEAN, NOISE = latents(0), latents(1)
DEGRADED = CLEAN + 0.3 * latents(2)


class Oracle:
    """Answers as a denoiser would that knows where the path must end, and remembers where it was asked."""

    def __init__(self, end: torch.Tensor, schedule: NoiseSchedule):
        self.end, self.schedule, self.visited = end, schedule, []
        self.scheduler_config = {**CONFIG, "prediction_type": schedule.prediction_type}
        self.device = torch.device("cpu")

    def predict(self, model_input: torch.Tensor, timestep: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        steps = timestep.round().long().expand(len(model_input))
        y = model_input / ABAR[steps].sqrt().view(-1, 1, 1, 1)
        eps = (y - self.end) / self.schedule.sigma(steps)
        self.visited.append((steps, y))
        return self.schedule.target(SimpleNamespace(y=y, eps=eps), steps)


def walk(sampler: str, strength: float, steps: int, kappa: float, spacing: str, config: dict) -> Denoising:
    start = find_start(make_scheduler(config, sampler, spacing), strength, steps)
    return Denoising(start, kappa, sampler, spacing=spacing)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@pytest.mark.parametrize("schedule", [EPSILON, VELOCITY], ids=["epsilon", "v"])
@pytest.mark.parametrize(
    ("strength", "steps", "spacing"),
    [(0.1, 1, "trailing"), (0.3, 4, "trailing"), (0.5, 10, "leading"), (0.7, 3, "trailing")],
)
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_samplers_walk_the_bridge_to_the_clean_latents(sampler, schedule, strength, steps, spacing, kappa):
    oracle = Oracle(CLEAN, schedule)
    how = walk(sampler, strength, steps, kappa, spacing, oracle.scheduler_config)
    end = restore_latents(oracle, DEGRADED, torch.zeros(2, 1, 1), [how] * 2, NOISE)
    assert len(oracle.visited) == steps
    torch.testing.assert_close(end, CLEAN, atol=1e-5, rtol=0)
    first = schedule.sigma(torch.full((2,), how.start.timesteps[0]))
    for timesteps, y in oracle.visited:
        point = bridge(CLEAN, DEGRADED, NOISE, schedule.sigma(timesteps), first, torch.tensor(kappa))
        torch.testing.assert_close(y, point.y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@pytest.mark.parametrize("kappa", [0.0, 1.0])
def test_the_naive_target_returns_the_degraded_latents(sampler, kappa):
    oracle = Oracle(DEGRADED, EPSILON)
    how = walk(sampler, 0.3, 4, kappa, "trailing", oracle.scheduler_config)
    sigma = EPSILON.sigma(torch.full((2,), how.start.timesteps[0]))
    point = naive(CLEAN, DEGRADED, NOISE, sigma, sigma, torch.tensor(kappa))
    # The oracle of the naive target is the oracle that ends at the degraded latents ...
    torch.testing.assert_close((point.y - DEGRADED) / sigma, point.eps, atol=1e-5, rtol=1e-5)
    # ... and there it does end.
    end = restore_latents(oracle, DEGRADED, torch.zeros(2, 1, 1), [how] * 2, NOISE)
    torch.testing.assert_close(end, DEGRADED, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", [bridge, direct, denoise])
@pytest.mark.parametrize("timestep", [5, 99, 499])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_every_target_points_at_the_clean_latents(objective, timestep, kappa):
    t, top = torch.full((2,), timestep), torch.full((2,), 499)
    point = objective(CLEAN, DEGRADED, NOISE, EPSILON.sigma(t), EPSILON.sigma(top), torch.tensor(kappa))
    torch.testing.assert_close(point.y - EPSILON.sigma(t) * point.eps, CLEAN, atol=1e-5, rtol=0)
    v = VELOCITY.target(point, t)
    abar = ABAR[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        abar.sqrt() * VELOCITY.model_input(point.y, t) - (1 - abar).sqrt() * v, CLEAN, atol=1e-5, rtol=0
    )


def test_direct_and_bridge_agree_at_the_start_and_one_step_ends_there():
    t = torch.full((2,), 200)
    sigma = EPSILON.sigma(t)
    one, other = (f(CLEAN, DEGRADED, NOISE, sigma, sigma, torch.tensor(0.5)) for f in (direct, bridge))
    torch.testing.assert_close(one.y, other.y)
    torch.testing.assert_close(one.eps, other.eps)


def test_weight_makes_the_noise_error_a_clipped_error_of_x0():
    t = torch.tensor([5, 400])
    sigma = EPSILON.sigma(t).flatten()
    expected = torch.where(sigma.pow(-2) > 5, 5 * sigma.square(), torch.ones(2))
    torch.testing.assert_close(EPSILON.weight(t, 5.0).flatten(), expected)
    assert torch.equal(EPSILON.weight(t, None).flatten(), torch.ones(2))


def test_loss_is_zero_for_the_oracle_and_per_sample():
    t, top, kappa = torch.tensor([50, 200]), torch.tensor([200, 200]), torch.tensor([0.0, 1.0])
    oracle = Oracle(CLEAN, EPSILON)

    def losses(error: torch.Tensor) -> torch.Tensor:
        made = forecast(
            lambda x, steps: oracle.predict(x, steps, x) + error.view(2, 1, 1, 1),
            bridge, EPSILON, CLEAN, DEGRADED, NOISE, t, top, kappa,
        )  # fmt: skip
        return latent_loss(made, EPSILON.weight(t, 5.0), lambda answer, target: (answer - target).square(), None)

    assert losses(torch.zeros(2)).max() < 1e-9
    off = losses(torch.tensor([0.0, 1.0]))
    assert off[0] < 1e-9
    torch.testing.assert_close(off[1], EPSILON.weight(t, 5.0)[1].squeeze())


def test_full_detail_return_of_an_untouched_photograph_is_the_photograph():
    pixels, round_trip = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(return_detail(round_trip, pixels - round_trip, 1.0), pixels)
    assert torch.equal(return_detail(round_trip, pixels - round_trip, 0.0), round_trip)


@pytest.mark.parametrize(
    ("strength", "steps", "total"), [(0.5, 10, 20), (0.1, 1, 10), (0.02, 1, 50), (1.0, 4, 4), (0.3, 3, 10)]
)
def test_steps_are_counted_as_the_web_uis_count_them(strength, steps, total):
    start = find_start(make_scheduler(CONFIG, "ddim", "trailing"), strength, steps)
    assert (start.num_inference_steps, len(start.timesteps)) == (total, steps)
    assert abs(start.timesteps[0] - (1000 * strength - 1)) <= 1
