"""A state that is read back goes on exactly; the schedule stays between floor and peak; a damaged run is not saved."""

import pytest
import torch

from lora_core.bases.stable_diffusion import open_base
from lora_core.errors import ConfigError, TrainingError
from lora_core.experiment import AdapterSection, BaseModelSection, TrainingSection
from lora_core.files import read_json
from lora_core.lora import attach
from lora_core.training.optimiser import make_optimiser, make_schedule
from lora_core.training.state import RunState

SECTION = AdapterSection(rank=16, alpha=8, layers="attention", text_encoder=True)


def state(miniature, optimizer: str, digest: str = "run") -> RunState:
    training = TrainingSection(optimizer=optimizer, learning_rate=1e-2, text_encoder_learning_rate=1e-3)
    adapter = attach(open_base(BaseModelSection(model=str(miniature)), torch.device("cpu")), SECTION, seed=0)
    optimiser = make_optimiser(adapter, training)
    return RunState(digest, adapter, optimiser, make_schedule(optimiser, training, 10))


def step(run: RunState, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in run.adapter.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    run.optimiser.step()
    run.schedule.step()
    run.updates += 1


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_a_restored_run_goes_on_exactly(miniature, tmp_path, optimizer):
    undisturbed = state(miniature, optimizer)
    for number in range(3):
        step(undisturbed, number)
    undisturbed.save(tmp_path / "state")
    restored = state(miniature, optimizer)
    restored.restore(tmp_path / "state", read_json(tmp_path / "state" / "state.json"))
    assert restored.updates == 3
    for number in range(3, 6):
        step(undisturbed, number)
        step(restored, number)
    pairs = zip(undisturbed.adapter.parameters(), restored.adapter.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert undisturbed.schedule.get_last_lr() == restored.schedule.get_last_lr()


def test_the_state_of_another_run_is_refused(miniature, tmp_path):
    state(miniature, "adamw").save(tmp_path / "state")
    with pytest.raises(ConfigError, match="belongs to another experiment"):
        state(miniature, "adamw", "other").restore(tmp_path / "state", read_json(tmp_path / "state" / "state.json"))


def test_weights_that_are_not_finite_never_replace_a_good_state(miniature, tmp_path):
    run = state(miniature, "adamw")
    run.save(tmp_path / "state")
    good = (tmp_path / "state" / "state.pt").read_bytes()
    run.adapter.parameters()[0].data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"weight unet\.down_blocks.* is not finite"):
        run.save(tmp_path / "state")
    assert (tmp_path / "state" / "state.pt").read_bytes() == good


@pytest.mark.parametrize(
    "scheduler", ["constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]
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
    if scheduler != "constant_with_warmup":
        assert schedule.get_last_lr()[0] < 1e-6
        assert rates[-2] > rates[-1] > schedule.get_last_lr()[0]  # it does not jump back to the peak at the end
