import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_core.errors import ResourceError
from lora_core.pretraining.estimate import Sizes, check_disk, duration, estimate, words
from lora_core.pretraining.recipe import Recipe, change_recipe

SIZES = Sizes(trained=20_000_000, frozen=5_000_000, latent_bytes=262_144)


def recipe(*changes: str) -> Recipe:
    return change_recipe(Recipe(), ["training.epochs=40", "training.batch=10", *changes])


def test_counts_updates_time_and_disk() -> None:
    one = estimate(recipe(), 3_000, 1.0, SIZES)
    assert (one.updates, one.images, one.seconds, one.checkpoints) == (12_000, 120_000, 12_000, 4)
    assert (one.checkpoint_bytes, one.state_bytes, one.cache_bytes) == (50_000_000, 240_000_000, 786_432_000)
    assert one.disk_bytes == 4 * 50_000_000 + 2 * 240_000_000 + 786_432_000
    assert words(one) == (
        "12,000 updates, about 3 h 20 min; 1.4 GiB on disk: checkpoints 0.2, state 0.4, cached latents 0.7"
    )
    assert "MiB on disk: checkpoints 0.1, state 0.2" in words(estimate(recipe(), 10, 1.0, Sizes(10_000, 0)))


def test_the_recipe_decides() -> None:
    parallel = recipe("training.accumulation=2", "training.processes=3", "training.ema=5000")
    one = estimate(parallel, 3_001, 1.0, SIZES)
    assert (one.updates, one.state_bytes) == (2_001, 320_000_000)  # the last, partial update is one too
    assert estimate(change_recipe(parallel, ["training.epochs=null"]), 50_000, 1.0, SIZES).images == 250 * 50_000
    pruned = estimate(recipe("training.checkpoint_every=1", "training.keep_gib=0.15"), 3_000, 1.0, SIZES)
    assert pruned.checkpoints == 3
    assert estimate(recipe("training.keep_gib=0.001"), 3_000, 1.0, SIZES).checkpoints == 2  # the best and the last


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(40, "40 s"), (90, "2 min"), (3_599, "1 h 0 min"), (12_000, "3 h 20 min"), (187_300, "2 d 4 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_disk_is_looked_at_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = estimate(recipe(), 3_000, 1.0, SIZES)

    def free(size: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))

    free(one.disk_bytes)
    assert check_disk(one, tmp_path / "not yet") is None
    free(one.disk_bytes - 1)
    warning = check_disk(one, tmp_path)
    assert warning is not None and "4 checkpoints" in warning and "training.keep_gib=0.0931" in warning
    free(one.disk_bytes - 3 * one.checkpoint_bytes - 1)
    with pytest.raises(ResourceError, match="a single checkpoint needs about"):
        check_disk(one, tmp_path)
