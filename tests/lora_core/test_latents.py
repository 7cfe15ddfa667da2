"""Pairs are matched strictly; both halves of a view are the same crop; a cache is found by content alone."""

import numpy as np
import pytest
import torch

from lora_core.bases import base_digest
from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base
from lora_core.data.latents import crop_views, view_cache
from lora_core.data.pairs import dataset_digest, test_pairs, training_pairs
from lora_core.degradation import degrade_folder
from lora_core.errors import DataError
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path, photos):
    place = Workspace(tmp_path / "work")
    place.create()
    for number, path in enumerate(list_photos(photos)):
        write_png((place.targets if number < 3 else place.test) / path.name, read_rgb(path))
    for clean, degraded in ((place.targets, place.degraded), (place.test, place.test_degraded)):
        degrade_folder(list_photos(clean), degraded, load_preset("pocket").degradation, workers=1)
    return place


def experiment(miniature, *settings: str) -> Experiment:
    plain = [f"base.model={miniature}", "data.resolution=64", "data.views=3"]
    return apply_overrides(load_preset("pocket"), [*plain, *settings])


def test_pairs_carry_their_folders_repeats_and_the_digest_their_bytes(workspace, miniature):
    settings = experiment(miniature)
    pairs = training_pairs(workspace, settings)
    assert [(pair.name, pair.repeats) for pair in pairs] == [("astronaut", 10), ("chelsea", 10), ("coffee", 10)]
    assert len(test_pairs(workspace, experiment(miniature, "data.test_limit=2"))) == 2
    before = dataset_digest(workspace, settings)
    write_png(pairs[0].clean, 255 - read_rgb(pairs[0].clean))
    assert dataset_digest(workspace, settings) != before


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda w: next(w.degraded.glob("chelsea*")).unlink(), "chelsea.png has no degraded twin"),
    (lambda w: next(w.targets.glob("chelsea*")).unlink(), "chelsea.png has no clean photograph"),
    (lambda w: write_png(w.targets / "coffee.bmp", np.zeros((8, 8, 3), np.uint8)), "coffee.png.* have the same name"),
    (lambda w: w.targets.rename(w.train / "targets"), "name it N_name"),
    (lambda w: [path.unlink() for path in w.targets.glob("*")], "no photographs in"),
])  # fmt: skip
def test_unmatched_pairs_are_named(workspace, miniature, damage, reason):
    damage(workspace)
    with pytest.raises(DataError, match=reason):
        training_pairs(workspace, experiment(miniature))


def test_views_crop_both_halves_alike_and_degrade_each_view_anew(workspace, miniature):
    settings = experiment(miniature, "data.views=4", "data.flip=true")
    pair = training_pairs(workspace, settings)[1]
    views = crop_views(pair, settings)
    clean = read_rgb(pair.clean)
    for sharp, degraded in views:
        assert sharp.shape == degraded.shape == (64, 64, 3)
        own = np.abs(sharp.astype(int) - degraded).mean()
        assert own < np.abs(sharp[:, ::-1].astype(int) - degraded).mean()
        windows = [clean, clean[:, ::-1]]
        assert any(
            (whole[top : top + 64, left : left + 64] == sharp).all()
            for whole in windows for top in range(65) for left in range(81)
        )  # fmt: skip
    assert len({degraded.tobytes() for _, degraded in views}) == 4


def test_own_twins_are_taken_as_they_are(workspace, miniature):
    settings = experiment(miniature, "degradation.preset=own", "data.views=2", "data.flip=false")
    pair = training_pairs(workspace, settings)[0]
    write_png(pair.degraded, 255 - read_rgb(pair.clean))
    assert all((sharp == 255 - degraded).all() for sharp, degraded in crop_views(pair, settings))


def test_the_cache_holds_the_latents_of_the_views_and_is_made_once(workspace, miniature):
    settings = experiment(miniature)
    base, pairs = open_base(settings.base, torch.device("cpu")), training_pairs(workspace, settings)
    digest, steps = base_digest(settings.base), []
    cache = view_cache(workspace, settings, pairs, base, digest, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    sharp, degraded = crop_views(pairs[2], settings)[1]
    clean_latents, degraded_latents = cache.rows([(2, 1)])
    torch.testing.assert_close(clean_latents, base.encode(to_pixels(sharp)[None]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(degraded_latents, base.encode(to_pixels(degraded)[None]), atol=1e-5, rtol=1e-5)
    view_cache(workspace, settings, pairs, base, digest, lambda *_: pytest.fail("made again"))
    view_cache(workspace, experiment(miniature, "data.views=1"), pairs, base, digest)
    assert len(list(workspace.cache.iterdir())) == 2


@pytest.mark.parametrize(("settings", "damage", "reason"), [
    (["data.resolution=72"], None, "data.resolution: 72 is not a multiple of 64"),
    (["data.resolution=192"], None, "astronaut.png is 144x128, smaller than data.resolution = 192"),
    ([], (64, 64), "is 64x64, its clean photograph 144x128"),
])  # fmt: skip
def test_photographs_that_do_not_fit_are_named_and_leave_no_cache(workspace, miniature, settings, damage, reason):
    chosen = experiment(miniature, *settings)
    pairs = training_pairs(workspace, chosen)
    if damage:
        write_png(pairs[0].degraded, np.zeros((*damage, 3), np.uint8))
    with pytest.raises(DataError, match=reason):
        view_cache(workspace, chosen, pairs, open_base(chosen.base, torch.device("cpu")), base_digest(chosen.base))
    assert not list(workspace.cache.glob("*/done.json"))


def test_pixels_and_rgb_are_each_others_inverse():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert (to_rgb(to_pixels(rgb)) == rgb).all()
