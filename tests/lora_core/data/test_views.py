"""Both halves of a view and its mask show the same part of the photograph, scaled and mirrored alike.

The photographs' colours are their own coordinates, so that a view says by itself where it was cut.
"""

import numpy as np
import pytest

from lora_core.data.buckets import Bucket
from lora_core.data.pair import Pair
from lora_core.data.views import make_views, mask_weights
from lora_core.errors import DataError
from lora_core.experiment import apply_overrides, load_preset
from lora_core.images import write_png
from lora_core.randomness import numpy_generator

WIDTH, HEIGHT = 250, 160


def coordinates(blue: int) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.dstack([columns, rows, np.full_like(rows, blue)]).astype(np.uint8)


@pytest.fixture
def pair(tmp_path):
    write_png(tmp_path / "a.png", coordinates(10))
    write_png(tmp_path / "twin.png", coordinates(200))
    write_png(tmp_path / "mask.png", coordinates(0)[..., :1].repeat(3, -1))
    return Pair("a", tmp_path / "a.png", tmp_path / "twin.png", mask=tmp_path / "mask.png")


def settings(*values):
    fixed = ["degradation.preset=own", "data.resolution=96", "data.bucket_step=32", "data.masks=folder"]
    return apply_overrides(load_preset("pocket"), [*fixed, *values])


def test_crops_are_cut_at_the_photographs_own_scale_where_they_always_were(pair):
    experiment = settings()
    mirrored = set()
    for number, view in enumerate(make_views(pair, experiment, Bucket(96, 96), range(20))):
        draw = numpy_generator("view", experiment.seed, "a", number)
        top, left = (int(draw.integers(side - 96 + 1)) for side in (HEIGHT, WIDTH))
        flip = draw.random() < 0.5
        mirrored.add(flip)
        expected = coordinates(10)[top : top + 96, left : left + 96]
        expected = expected[:, ::-1] if flip else expected
        np.testing.assert_array_equal(view.clean, expected)
        np.testing.assert_array_equal(view.degraded[..., :2], expected[..., :2])
        np.testing.assert_array_equal(view.mask, expected[..., 0])
        assert (view.degraded[..., 2] == 200).all()
    assert mirrored == {True, False}
    straight = make_views(pair, settings("data.flip=false"), Bucket(96, 96), [7])[0].clean[0, :, 0].astype(int)
    assert (np.diff(straight) == 1).all()


@pytest.mark.parametrize(("bucket", "more"), [
    (Bucket(128, 64), ()), (Bucket(96, 96), ()), (Bucket(64, 128), ()), (Bucket(250, 160), ()),
    (Bucket(512, 320), ("data.bucket_upscale=true",)),
])  # fmt: skip
def test_buckets_scale_and_cut_all_three_alike(pair, bucket, more):
    experiment = settings("data.framing=bucket", *more)
    scale = max(bucket.width / WIDTH, bucket.height / HEIGHT)
    places = set()
    for view in make_views(pair, experiment, bucket, range(8)):
        assert view.clean.shape == view.degraded.shape == (bucket.height, bucket.width, 3)
        np.testing.assert_array_equal(view.clean[..., :2], view.degraded[..., :2])
        inner = (slice(8, -8), slice(8, -8))  # where enlarging does not see the border
        assert np.abs(view.clean[..., 0].astype(int) - view.mask)[inner].max() <= 1
        columns = view.clean[..., 0].astype(int)
        steps = np.diff(columns[bucket.height // 2])
        assert abs(abs(steps.mean()) - 1 / scale) < 0.1, "scaled as a whole, not squeezed"
        rows = np.diff(view.clean[:, bucket.width // 2, 1].astype(int))
        assert abs(rows.mean() - 1 / scale) < 0.1, "never upside down"
        places.add(view.clean[0, 0].tobytes())
    if bucket in (Bucket(96, 96), Bucket(64, 128)):
        assert len(places) > 3, "the part that is cropped away is drawn view by view"


def test_any_number_is_a_view_and_always_the_same(pair):
    experiment = settings("degradation.preset=pocket", "data.masks=none")
    views = make_views(pair, experiment, Bucket(96, 96), [0, 1, 2, 10**9, 10**9])
    assert len({view.clean.tobytes() + view.degraded.tobytes() for view in views}) == 4
    assert (views[3].degraded == views[4].degraded).all()
    assert (views[0].degraded[..., 2] == 200).all(), "view 0 has the twin of the file"
    pair.degraded.unlink()
    make_views(pair, experiment, Bucket(96, 96), [1])[0]


def test_a_photograph_without_twin_is_its_own_and_stays_clean(pair):
    plain = Pair("a", pair.clean, pair.clean)
    view = make_views(plain, settings("degradation.preset=pocket"), Bucket(96, 96), [3])[0]
    assert plain.plain and view.clean is view.degraded and view.mask is None


def test_alpha_is_a_mask_and_colours_below_it_stay(pair):
    write_png(pair.clean, coordinates(10), coordinates(0)[..., 0])
    alpha = Pair("a", pair.clean, pair.degraded, mask=pair.clean)
    view = make_views(alpha, settings("data.masks=alpha"), Bucket(96, 96), [0])[0]
    np.testing.assert_array_equal(view.mask, view.clean[..., 0])


def _transparent(pair):
    write_png(pair.mask, coordinates(0)[..., :1].repeat(3, -1), coordinates(0)[..., 1])


@pytest.mark.parametrize(("damage", "values", "reason"), [
    (lambda pair: write_png(pair.mask, np.zeros((8, 9, 3), np.uint8)), (), r"mask\.png is 9x8, its photograph 250x160"),
    (lambda pair: write_png(pair.mask, coordinates(0)), (), r"mask\.png is coloured"),
    (_transparent, (), r"mask\.png is transparent"),
    (lambda pair: write_png(pair.mask, 0 * coordinates(0)), (), r"mask\.png: the mask is all black"),
    (lambda pair: write_png(pair.degraded, np.zeros((8, 9, 3), np.uint8)), (), r"twin\.png is 9x8, its clean"),
    (lambda pair: None, ("data.resolution=192",), r"a\.png is 250x160, smaller than data\.resolution = 192"),
    (lambda pair: None, ("data.resolution=192", "data.framing=bucket"), r"a\.png is 250x160, smaller than its bucket"),
])  # fmt: skip
def test_files_that_do_not_fit_are_named(pair, damage, values, reason):
    damage(pair)
    experiment = settings(*values)
    with pytest.raises(DataError, match=reason):
        make_views(pair, experiment, Bucket(experiment.data.resolution, experiment.data.resolution), [0])[0]


def test_a_photograph_without_alpha_is_named(pair):
    with pytest.raises(DataError, match=r"a\.png has no alpha channel"):
        make_views(Pair("a", pair.clean, pair.degraded, mask=pair.clean), settings(), Bucket(96, 96), [0])[0]


def test_mask_weights_are_means_of_the_cells():
    mask = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    expected = mask.reshape(8, 8, 12, 8).mean((1, 3)) / 255
    np.testing.assert_allclose(mask_weights(mask, 8)[0], expected, atol=1e-6)
