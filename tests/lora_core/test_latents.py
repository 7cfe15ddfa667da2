"""Pairs are matched strictly; a cache is found by content alone, made together, and never read where it is damaged."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lora_core.bases import base_digest
from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base
from lora_core.data.latents import open_views
from lora_core.data.pairs import dataset_digest, prior_pairs, test_pairs, training_pairs
from lora_core.data.shapes import shapes_of
from lora_core.data.views import make_views
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


@pytest.fixture(scope="module")
def base(miniature):
    return open_base(experiment(miniature).base, torch.device("cpu"))


def open_cache(workspace, settings, base, pairs=None, progress=lambda *_: None, **more):
    pairs = training_pairs(workspace, settings) if pairs is None else pairs
    shapes = shapes_of(workspace, settings, pairs, base.multiple)
    return open_views(workspace, settings, pairs, shapes, base, base_digest(settings.base), progress, **more)


def only_folder(workspace):
    (folder,) = workspace.cache.glob("latents-*")
    return folder


def contents(workspace) -> bytes:
    return (only_folder(workspace) / "records.bin").read_bytes()


def test_captions_repeats_and_masks_are_in_the_digest_and_only_pixels_in_the_caches_name(workspace, miniature, base):
    settings = experiment(miniature, "data.captions=files", "data.missing_caption=prompt")
    open_cache(workspace, settings, base)
    before = dataset_digest(workspace, settings)
    (workspace.targets / "coffee.txt").write_text("a cup")
    assert [pair.caption for pair in training_pairs(workspace, settings)] == ["a photo", "a photo", "a cup"]
    assert (after := dataset_digest(workspace, settings)) != before
    workspace.targets.rename(workspace.train / "3_targets")
    assert dataset_digest(workspace, settings) != after
    open_cache(workspace, settings, base, progress=lambda *_: pytest.fail("made again"))


@pytest.mark.parametrize(("more", "tolerance"), [
    ([], 1e-5), (["base.precision=bf16"], 2e-3),
    (["data.framing=bucket", "data.resolution=96", "data.bucket_step=32", "data.bucket_ratio=3"], 1e-5),
])  # fmt: skip
def test_the_cache_holds_the_latents_of_the_views_and_is_made_once(workspace, miniature, base, more, tolerance):
    settings = experiment(miniature, *more)
    if settings.data.framing == "bucket":  # miniature's multiple is 64; its autoencoder takes less
        base = type(base)(**{**vars(base), "multiple": 32})
        for name, size in (("astronaut", (97, 128)), ("coffee", (64, 128))):
            for folder in (workspace.targets, workspace.degraded):
                path = folder / f"{name}.png"
                write_png(path, read_rgb(path)[: size[0], : size[1]])
    steps, pairs = [], training_pairs(workspace, settings)
    cache = open_cache(workspace, settings, base, pairs, lambda *step: steps.append(step))
    assert steps == sorted(steps) and steps[-1] == (3, 3)
    shapes = shapes_of(workspace, settings, pairs, base.multiple)
    assert len(shapes.buckets) == (2 if settings.data.framing == "bucket" else 1)
    for sample in ((pair, view) for pair in range(3) for view in range(3)):
        view = make_views(pairs[sample[0]], settings, shapes.of(sample[0]), [sample[1]])[0]
        rows = cache.rows([sample])
        for found, pixels in ((rows.clean, view.clean), (rows.degraded, view.degraded)):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, base.encode(to_pixels(pixels)[None]), atol=tolerance, rtol=tolerance)
    again = open_cache(workspace, settings, base, pairs, lambda *_: pytest.fail("made again"))
    same = [(2, 1), (2, 0)]
    torch.testing.assert_close(again.rows(same).clean, cache.rows(same).clean, atol=0, rtol=0)
    with pytest.raises(IndexError):
        cache.rows([(0, 3)])
    open_cache(workspace, experiment(miniature, *more, "data.views=1"), base, pairs)
    assert len(list(workspace.cache.glob("latents-*"))) == 2


def test_what_decides_the_latents_is_in_the_caches_name(workspace, miniature, base):
    others = ["seed=1", "data.flip=false", "degradation.seed=1", "base.precision=bf16", "data.views=2",
              "degradation.preset=own"]  # fmt: skip
    for number, other in enumerate(["data.views=3", *others], 1):
        open_cache(workspace, experiment(miniature, other), base)
        assert len(list(workspace.cache.glob("latents-*"))) == number
    pairs = training_pairs(workspace, experiment(miniature))
    write_png(pairs[0].degraded, 255 - read_rgb(pairs[0].degraded))
    open_cache(workspace, experiment(miniature), base)
    assert len(list(workspace.cache.glob("latents-*"))) == 2 + len(others)


def test_masks_weight_the_cells_between_the_unmasked_weight_and_one(workspace, miniature, base):
    workspace.masks.mkdir()
    for path in list_photos(workspace.targets):
        grey = np.zeros((128, 144, 3), np.uint8)
        grey[:, 72:] = 255
        write_png(workspace.masks / path.name, grey)
    sources = []
    for weight in (0.0, 0.25):
        settings = experiment(miniature, "data.masks=folder", f"data.unmasked_weight={weight}")
        sources.append(open_cache(workspace, settings, base).rows([(0, 0), (1, 2)]).mask)
    side = 64 // base.factor
    assert sources[0].shape == (2, 1, side, side) and len(list(workspace.cache.glob("latents-*"))) == 1
    assert sources[0].min() == 0 and sources[0].max() == 1
    torch.testing.assert_close(sources[1], 0.25 + 0.75 * sources[0])
    assert open_cache(workspace, experiment(miniature), base).rows([(0, 0)]).mask is None


def test_regularisation_images_have_one_half(workspace, miniature, base):
    (workspace.prior / "4_photo").mkdir(parents=True)
    for path in list_photos(workspace.test)[:2]:
        shutil.copy(path, workspace.prior / "4_photo")
    settings = experiment(miniature, "objective.prior_images=1", "data.views=2")
    pairs = prior_pairs(workspace, settings)
    assert [(pair.repeats, pair.plain) for pair in pairs] == [(4, True)] * 2
    rows = open_cache(workspace, settings, base, pairs).rows([(1, 1), (0, 0)])
    assert rows.clean is rows.degraded and rows.mask is None
    bucket = shapes_of(workspace, settings, pairs, base.multiple).of(1)
    expected = base.encode(to_pixels(make_views(pairs[1], settings, bucket, [1])[0].clean)[None])
    torch.testing.assert_close(rows.clean[:1], expected, atol=1e-5, rtol=1e-5)
    assert len(contents(workspace)) == 2 * 2 * (4 * (rows.clean[0].numel()) + 8)


@pytest.mark.parametrize("more", [[], ["base.precision=bf16"]])
def test_a_stream_gives_what_the_cache_holds_and_endlessly_more(workspace, miniature, base, more):
    cached, streamed = experiment(miniature, *more), experiment(miniature, *more, "data.cache=false")
    cache, stream = (open_cache(workspace, settings, base) for settings in (cached, streamed))
    samples = [(pair, view) for view in range(3) for pair in range(3)]
    for half in ("clean", "degraded"):
        found, expected = (getattr(source.rows(samples), half) for source in (stream, cache))
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    far = stream.rows([(0, 10**9), (0, 10**9 + 1), (0, 10**9)])
    assert torch.equal(far.degraded[0], far.degraded[2]) and not torch.allclose(far.clean[0], far.clean[1])


def test_damage_is_found_where_it_is_read_and_named(workspace, miniature, base):
    settings = experiment(miniature)
    open_cache(workspace, settings, base)
    file = only_folder(workspace) / "records.bin"
    data, record = bytearray(file.read_bytes()), len(contents(workspace)) // 9
    for sample, harm in (((1, 1), lambda at: data.__setitem__(at + 100, data[at + 100] ^ 1)),
                         ((2, 0), lambda at: data.__setitem__(slice(at, at + record), bytes(record))),
                         ((0, 2), lambda at: data.__setitem__(slice(at, at + record), data[:record]))):  # fmt: skip
        harm(record * (3 * sample[0] + sample[1]))
    file.write_bytes(data)
    cache = open_cache(workspace, settings, base)
    cache.rows([(0, 0), (0, 1), (1, 0), (2, 2)])
    for sample, name in (((1, 1), "chelsea"), ((2, 0), "coffee"), ((0, 2), "astronaut")):
        with pytest.raises(DataError, match=rf"records.bin is damaged at view {sample[1]} of .*{name}.png; delete the"):
            cache.rows([(0, 0), sample])


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda folder: (folder / "records.bin").write_bytes(b"short"), "has 5 bytes of"),
    (lambda folder: (folder / "records.bin").unlink(), "No such file"),
    (lambda folder: (folder / "done.json").write_text("{"), "cannot read"),
    (lambda folder: change(folder, key="0" * 64), "says key '000"),
    (lambda folder: change(folder, version=1), "says version 1, not 2"),
    (lambda folder: change(folder, dtype="float16"), "says dtype 'float16', not 'float32'"),
])  # fmt: skip
def test_a_folder_that_is_not_what_its_name_says_is_refused_by_name(workspace, miniature, base, damage, reason):
    settings = experiment(miniature)
    open_cache(workspace, settings, base)
    damage(only_folder(workspace))
    with pytest.raises(DataError, match=f"the latent cache: .*{reason}.*delete the folder .*latents-"):
        open_cache(workspace, settings, base)


def change(folder, **values) -> None:
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps(done | values))


def together(workspace, settings, base, count, harm=lambda rank: None):
    """Several processes that open one cache, as threads; each one's error or None."""
    meeting = threading.Barrier(count)

    def one(rank: int) -> Exception | None:
        def progress(*_):
            harm(rank)

        try:
            open_cache(
                workspace, settings, base, progress=progress, share=(rank, count), barrier=lambda: meeting.wait(30)
            )
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_processes_that_share_the_work_make_the_bytes_of_one(workspace, miniature, base):
    settings = experiment(miniature, "data.views=7")
    open_cache(workspace, settings, base)
    alone = contents(workspace)
    shutil.rmtree(workspace.cache)
    encoded = []
    assert together(workspace, settings, base, 2, lambda rank: encoded.append(rank)) == [None, None]
    assert set(encoded) == {0, 1} and contents(workspace) == alone
    assert together(workspace, settings, base, 2, lambda rank: pytest.fail("made again")) == [None, None]


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_process_that_fails_stops_all_and_leaves_no_cache(workspace, miniature, base, culprit):
    def harm(rank):
        if rank == culprit:
            raise DataError("the third photograph is damaged")

    settings = experiment(miniature, "data.views=7")
    failed = together(workspace, settings, base, 2, harm)
    assert all(isinstance(error, DataError) and "third photograph" in str(error) for error in failed), failed
    assert not list(workspace.cache.glob("latents-*"))
    assert together(workspace, settings, base, 2) == [None, None]
    (only_folder(workspace) / "done.json").write_text("{}")
    refused = together(workspace, settings, base, 2)
    assert all(isinstance(error, DataError) and "delete the folder" in str(error) for error in refused), refused


def test_what_a_killed_run_has_encoded_is_used(workspace, miniature, base, monkeypatch):
    settings = experiment(miniature, "data.views=7")
    open_cache(workspace, settings, base)
    whole = contents(workspace)
    shutil.rmtree(workspace.cache)

    class Killed(BaseException):
        pass

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        open_cache(workspace, settings, base, progress=kill)
    assert not list(workspace.cache.glob("latents-*"))
    images, encode = [], base.encode
    monkeypatch.setattr(base, "encode", lambda pixels: images.append(len(pixels)) or encode(pixels))
    open_cache(workspace, settings, base)
    assert sum(images) == 2 * (21 - 8) and contents(workspace) == whole


def test_latents_that_are_not_finite_name_their_photograph(workspace, miniature, base, monkeypatch):
    encode = base.encode
    monkeypatch.setattr(base, "encode", lambda pixels: encode(pixels) * torch.tensor(1e9))
    with pytest.raises(DataError, match=r"latents of .*astronaut\.png, view 0, are not finite in float16"):
        open_cache(workspace, experiment(miniature, "base.precision=bf16"), base)
    assert not list(workspace.cache.glob("*latents-*/*"))


@pytest.mark.parametrize(("settings", "damage", "reason"), [
    (["data.resolution=72"], None, "data.resolution: 72 is not a multiple of 64"),
    (["data.resolution=192"], None, "astronaut.png is 144x128, smaller than data.resolution = 192"),
    ([], (64, 64), "is 64x64, its clean photograph 144x128"),
])  # fmt: skip
def test_photographs_that_do_not_fit_are_named_and_leave_no_cache(workspace, miniature, base, settings, damage, reason):
    chosen = experiment(miniature, *settings)
    pairs = training_pairs(workspace, chosen)
    if damage:
        write_png(pairs[0].degraded, np.zeros((*damage, 3), np.uint8))
    with pytest.raises(DataError, match=reason):
        open_cache(workspace, chosen, base, pairs)
    assert not list(workspace.cache.glob("*/done.json"))


def test_pixels_and_rgb_are_each_others_inverse():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert (to_rgb(to_pixels(rgb)) == rgb).all()
