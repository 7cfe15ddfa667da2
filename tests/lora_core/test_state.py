"""A state that is read back goes on exactly; the schedule stays between floor and peak; a damaged run is not saved."""

import pytest
import torch

from lora_core.bases.stable_diffusion import open_base
from lora_core.errors import ConfigError, TrainingError
from lora_core.experiment import AdapterSection, BaseModelSection, TrainingSection
from lora_core.lora import attach
from lora_core.training.optimiser import Average, evaluating, limit_norms, make_optimiser, make_schedule
from lora_core.training.state import RunState, keep_states, newest_state, state_folder

SECTION = AdapterSection(rank=16, alpha=8, layers="attention", text_encoder=True)


OPTIMISERS = ("adamw", "adamw8bit", "paged-adamw8bit", "lion", "adafactor", "prodigy", "schedule-free-adamw")


def state(miniature, optimizer: str, digest: str = "run", **settings) -> RunState:
    settings = {"learning_rate": 1e-2, "text_encoder_learning_rate": 1e-3, "scheduler": "constant", **settings}
    training = TrainingSection(optimizer=optimizer, **settings)
    adapter = attach(open_base(BaseModelSection(model=str(miniature)), torch.device("cpu")), SECTION, seed=0)
    optimiser = make_optimiser(adapter, training)
    average = Average(adapter.parameters(), training.ema) if training.ema else None
    return RunState(digest, adapter, optimiser, make_schedule(optimiser, training, 10), average=average)


def step(run: RunState, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in run.adapter.parameters():
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = gradient if parameter.grad is None else parameter.grad.copy_(gradient)
    run.optimiser.step()
    run.schedule.step()
    if run.average:
        run.average.update(4)
    run.updates += 1


@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_a_restored_run_goes_on_exactly(miniature, tmp_path, optimizer):
    settings = {"ema": 8, "lora_plus": 4.0}
    undisturbed = state(miniature, optimizer, **settings)
    for number in range(3):
        step(undisturbed, number)
    undisturbed.save(tmp_path / "state")
    restored = state(miniature, optimizer, **settings)
    restored.restore(tmp_path / "state")
    assert restored.updates == 3
    for number in range(3, 6):
        step(undisturbed, number)
        step(restored, number)
    pairs = zip(undisturbed.adapter.parameters(), restored.adapter.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    averages = zip(undisturbed.average.values, restored.average.values, strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in averages)
    assert undisturbed.schedule.get_last_lr() == restored.schedule.get_last_lr()


def test_the_state_of_another_run_is_refused(miniature, tmp_path):
    state(miniature, "adamw").save(tmp_path / "state")
    with pytest.raises(ConfigError, match="belongs to another experiment"):
        state(miniature, "adamw", "other").restore(tmp_path / "state")


def test_weights_that_are_not_finite_never_replace_a_good_state(miniature, tmp_path):
    run = state(miniature, "adamw")
    run.save(tmp_path / "state")
    good = (tmp_path / "state" / "state.pt").read_bytes()
    run.adapter.parameters()[0].data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"weight unet\.down_blocks.* is not finite"):
        run.save(tmp_path / "state")
    assert (tmp_path / "state" / "state.pt").read_bytes() == good


@pytest.mark.parametrize(
    "scheduler",
    ["constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "piecewise_constant"],
)
@pytest.mark.parametrize(("updates", "warmup", "restarts"), [(10, 0.0, 1), (100, 0.1, 3), (37, 0.3, 2)])
def test_the_rate_never_passes_its_peak_and_ends_at_the_floor(scheduler, updates, warmup, restarts):
    training = TrainingSection(scheduler=scheduler, warmup=warmup, restarts=restarts, learning_rate=1e-2)
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=training.learning_rate)
    schedule = make_schedule(optimiser, training, updates)
    rates = []
    for _ in range(updates):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert max(rates) <= 1e-2 and rates[round(warmup * updates)] == pytest.approx(1e-2)
    if scheduler == "piecewise_constant":
        assert rates[-1] == pytest.approx(1e-3) and schedule.get_last_lr()[0] == 0
    elif scheduler != "constant_with_warmup":
        assert schedule.get_last_lr()[0] < 1e-6
        assert rates[-2] > rates[-1] > schedule.get_last_lr()[0]  # it does not jump back to the peak at the end


def test_lora_plus_raises_the_rate_of_the_b_matrices_alone(miniature):
    made = state(miniature, "lion", lora_plus=16.0)
    rates = {id(one): group["lr"] for group in made.optimiser.param_groups for one in group["params"]}
    for named, rate in ((made.adapter.unet, 1e-2), (made.adapter.text_encoder, 1e-3)):
        for name, parameter in named.items():
            assert rates[id(parameter)] == pytest.approx(rate * (16 if "lora_B" in name else 1))
    assert len(rates) == len(made.adapter.parameters())


@pytest.mark.parametrize(("optimizer", "ema"), [("adamw", 4), ("schedule-free-adamw", None)])
def test_the_weights_to_judge_differ_and_the_trained_ones_come_back_to_the_bit(miniature, optimizer, ema):
    made = state(miniature, optimizer, ema=ema)
    for number in range(3):
        step(made, number)
    trained = [parameter.detach().clone() for parameter in made.adapter.parameters()]
    with evaluating(made.optimiser, made.adapter.parameters(), made.average):
        judged = [parameter.detach().clone() for parameter in made.adapter.parameters()]
        if ema:
            assert all(torch.equal(ours, mean) for ours, mean in zip(judged, made.average.values, strict=True))
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(trained, judged, strict=True))
    assert all(torch.equal(ours, now) for ours, now in zip(trained, made.adapter.parameters(), strict=True))
    step(made, 3)  # and training goes on


def test_an_average_of_half_life_h_keeps_half_after_h_images():
    parameter = torch.nn.Parameter(torch.ones(3))
    average = Average([parameter], half_life=8)
    parameter.data.zero_()
    for _ in range(4):
        average.update(2)
    torch.testing.assert_close(average.values[0], torch.full((3,), 0.5))


def test_norms_are_limited_where_they_are_too_long_and_nowhere_else(miniature):
    adapter = state(miniature, "adamw").adapter
    for number, parameter in enumerate(adapter.parameters()):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    before = adapter.weights()
    norms = {module: before.delta(module).norm().item() for module in before.modules()}
    limit = sorted(norms.values())[len(norms) // 2]
    limit_norms(adapter, limit)
    after = adapter.weights()
    for module, norm in norms.items():
        torch.testing.assert_close(
            after.delta(module), before.delta(module) * min(1.0, limit / norm), atol=1e-5, rtol=0
        )


def test_the_newest_states_and_the_best_are_kept(tmp_path):
    for images in (100, 200, 300, 400, 900):
        state_folder(tmp_path, images).mkdir(parents=True)
        (state_folder(tmp_path, images) / "state.json").touch()
    state_folder(tmp_path, 350).mkdir()  # a part of a state, as another machine had published it when it died
    (state_folder(tmp_path, 350) / "state.pt").touch()
    keep_states(tmp_path, 400, best_images=100, newest=2)  # 900 is left from a run that was begun again
    assert [int(path.name.split("-")[1]) for path in sorted(tmp_path.iterdir())] == [100, 300, 400]
    assert newest_state(tmp_path) == state_folder(tmp_path, 400) and newest_state(tmp_path / "none") is None
    state_folder(tmp_path, 500).mkdir()
    assert newest_state(tmp_path) == state_folder(tmp_path, 400)
