"""The plan and the draws are functions of the position; the guard names the files of a loss that is not finite."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_core.data.pairs import Pair
from lora_core.denoising import Start
from lora_core.errors import TrainingError
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.training.draws import draw
from lora_core.training.log import read_log
from lora_core.training.monitor import LINE_EVERY, Monitor
from lora_core.training.plan import Plan
from lora_core.training.trackers import Trackers

PAIRS = [
    Pair(name, Path(f"{name}.png"), Path(f"d/{name}.png"), repeats) for name, repeats in (("a", 1), ("b", 2), ("c", 4))
]
STARTS = [Start(0.1, 1, 10, (99,)), Start(0.5, 3, 6, (499, 333, 166))]


def experiment(*settings: str) -> Experiment:
    return apply_overrides(load_preset("pocket"), list(settings))


def plan(*settings: str) -> Plan:
    return Plan.of(experiment(*settings), PAIRS)


def test_every_epoch_visits_each_pair_as_often_as_its_folder_says():
    made = plan("training.epochs=3", "training.batch=2")
    assert made.updates == 11  # 21 visits, and one more that fills the last batch
    for epoch in range(3):
        visits = Counter(made.sample(position)[0] for position in range(7 * epoch, 7 * epoch + 7))
        assert visits == {0: 1, 1: 2, 2: 4}
    assert len({tuple(made.sample(7 * epoch + place) for place in range(7)) for epoch in range(3)}) == 3


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes"), [(4, 1, 1), (2, 2, 1), (1, 4, 1), (2, 1, 2), (1, 2, 2)]
)
def test_the_effective_batch_covers_the_same_images_however_it_is_split(batch, accumulation, processes):
    made = plan(f"training.batch={batch}", f"training.accumulation={accumulation}", f"training.processes={processes}")
    for update in range(3):
        places = [
            place
            for micro in range(accumulation)
            for process in range(processes)
            for place in made.positions(update, micro, process)
        ]
        assert sorted(places) == list(range(4 * update, 4 * update + 4))


@pytest.mark.parametrize(("epochs", "every", "expected"), [(20, 5, [5, 10, 15, 20]), (7, 3, [3, 6, 7]), (2, 5, [2])])
def test_the_last_epoch_always_has_a_checkpoint(epochs, every, expected):
    made = plan(f"training.epochs={epochs}", f"training.checkpoint_every={every}", "training.batch=3")
    assert list(made.checkpoints.values()) == expected
    assert max(made.checkpoints) == made.updates == -(-epochs * 7 // 3)


def test_every_update_has_one_bucket_and_no_image_is_left_out():
    made = Plan.of(experiment("training.epochs=3", "training.batch=2"), PAIRS, np.array([0, 1, 0]))
    seen = Counter()
    for update in range(made.updates):
        pairs = [made.sample(position)[0] for position in made.positions(update, 0, 0)]
        assert len({int(pair == 1) for pair in pairs}) == 1
        seen.update(pairs)
    assert seen[1] == 6 and seen[0] + seen[2] == 16 and seen[0] >= 3 and seen[2] >= 12
    turns = [made.sample(update * 2)[0] == 1 for update in range(made.updates)]
    assert sum(turns[:4]) >= 1 and sum(turns[-4:]) >= 1  # spread over the run


def test_another_split_is_the_same_run():
    made = plan("training.batch=4", "training.accumulation=3")
    other = made.split(6)
    assert (other.batch, other.accumulation, other.updates) == (6, 2, made.updates)
    assert [made.sample(place) for place in range(24)] == [other.sample(place) for place in range(24)]
    with pytest.raises(ValueError, match="no multiple"):
        made.split(5)


def test_without_a_cache_every_visit_is_a_view_of_its_own():
    made = plan("data.cache=false", "training.epochs=3")
    assert len({made.sample(position)[1] for position in range(21)}) == 21
    assert min(made.sample(position)[1] for position in range(21)) > 0  # 0 is the twin in its file


@pytest.mark.parametrize("timesteps", ["grid", "uniform"])
def test_draws_do_not_depend_on_the_batch(timesteps):
    settings = experiment(f"objective.timesteps={timesteps}", "sweep.start_noises=[0.0, 1.0]")
    whole = draw(settings, STARTS, range(64), (2, 4, 4))
    halves = [draw(settings, STARTS, part, (2, 4, 4)) for part in (range(32), range(32, 64))]
    for name in ("timesteps", "starts", "kappa", "eps", "clean"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
    assert (whole.timesteps <= whole.starts).all()
    assert set(whole.kappa.tolist()) == {0.0, 1.0} and set(whole.starts.tolist()) == {99, 499}
    if timesteps == "grid":
        assert set(whole.timesteps.tolist()) == {99, 166, 333, 499}


def monitor(folder: Path, done: int = 0) -> Monitor:
    return Monitor(
        folder / "log.jsonl", Trackers((), folder, folder, {}), images_per_update=2, images_per_epoch=8, updates=100,
        done=done,
        describe=lambda update: [f"photo-{update}.png", f"photo-{update + 1}.png"],
    )  # fmt: skip


def test_a_loss_that_is_not_finite_names_its_files_and_writes_no_line(tmp_path):
    watch = monitor(tmp_path)
    for number in range(1, LINE_EVERY + 1):
        watch.update(number, {"latent": torch.tensor(0.5)}, 1e-3)
    with pytest.raises(TrainingError, match=r"update 11 \(files: photo-11.png, photo-12.png\).*learning_rate"):
        for number in range(LINE_EVERY + 1, 2 * LINE_EVERY + 1):
            watch.update(number, {"latent": torch.tensor(float("nan") if number == 11 else 0.5)}, 1e-3)
    assert [row["update"] for row in read_log(tmp_path / "log.jsonl")] == [LINE_EVERY]


def test_a_continued_log_forgets_what_a_killed_run_wrote_after_its_last_state(tmp_path):
    watch = monitor(tmp_path)
    for number in range(1, 3 * LINE_EVERY + 1):
        watch.update(number, {"latent": torch.tensor(float(number))}, 1e-3)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"images": 5')  # the line that the kill cut short
    monitor(tmp_path, done=LINE_EVERY)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 1 and rows[0]["images_per_second"] > 0 and rows[0]["memory_mib"] > 0
    expected = {"images": 16, "epoch": 2.0, "update": 8, "loss": 4.5, "learning_rate": 1e-3}
    assert expected.items() <= rows[0].items()
