"""Every photograph has the bucket that is nearest in ratio, or a reason; the report counts what the run will do."""

import numpy as np
import pytest

from lora_core.data.buckets import Bucket, assign, bucket_lines, bucket_report, bucket_shapes, scaled_size
from lora_core.errors import DataError
from lora_core.sections.data import DataSection


def section(**values) -> DataSection:
    return DataSection(**{"framing": "bucket", "resolution": 512, "bucket_upscale": True, **values})


@pytest.mark.parametrize("resolution", [256, 512, 768, 1024])
@pytest.mark.parametrize(("step", "multiple"), [(64, 64), (32, 64), (8, 8), (24, 64)])
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 8.0])
def test_shapes_keep_to_area_step_and_ratio_and_none_contains_another(resolution, step, multiple, ratio):
    shapes = bucket_shapes(section(resolution=resolution, bucket_step=step, bucket_ratio=ratio), multiple)
    grid = np.lcm(step, multiple)
    assert shapes == tuple(sorted(set(shapes)))
    assert {Bucket(one.height, one.width) for one in shapes} == set(shapes), "portrait and landscape are alike"
    for one in shapes:
        assert one.width % grid == one.height % grid == 0
        assert one.width * one.height <= resolution**2 and max(one) <= ratio * min(one) + 1e-9
        for wider in (Bucket(one.width + grid, one.height), Bucket(one.width, one.height + grid)):
            assert wider.width * wider.height > resolution**2 or max(wider) > ratio * min(wider)


def test_the_shapes_of_sd_are_five():
    assert [str(one) for one in bucket_shapes(section(), 64)] == ["384x640", "448x576", "512x512", "576x448", "640x384"]


def test_random_photographs_go_to_the_nearest_ratio_and_cover_their_bucket():
    settings, draw = section(bucket_ratio=3.0), np.random.default_rng(0)
    sizes = draw.integers(300, 6000, (4000, 2))
    sizes = sizes[np.max(sizes, 1) <= 3 * np.min(sizes, 1)]
    shapes, possible = assign(sizes, settings, 64), bucket_shapes(settings, 64)
    assert set(shapes.buckets) <= set(possible) and sorted(shapes.buckets) == list(shapes.buckets)
    for photo, (width, height) in enumerate(sizes):
        bucket = shapes.of(photo)
        distance = abs(np.log(width / height * bucket.height / bucket.width))
        assert distance <= min(abs(np.log(width / height * one.height / one.width)) for one in possible) + 1e-8
        scaled = scaled_size((width, height), bucket)
        assert all(mine >= least for mine, least in zip(scaled, bucket, strict=True))
        assert scaled[0] == bucket.width or scaled[1] == bucket.height, "one side fits, the other is cropped"
        assert abs(scaled[0] / width - scaled[1] / height) <= 0.5 / min(width, height) + 1e-9, "no distortion"
    assert sum(len(shapes.members(number)) for number in range(len(shapes.buckets))) == len(sizes)


@pytest.mark.parametrize(("settings", "size", "reason"), [
    ({}, (2001, 1000), r"b\.png is 2001x1000, longer than data\.bucket_ratio = 2 .* data\.framing=crop"),
    ({"bucket_upscale": False}, (600, 383), r"b\.png is 600x383, smaller than its bucket 640x384; .*bucket_upscale"),
    ({"framing": "crop"}, (600, 511), r"b\.png is 600x511, smaller than data\.resolution = 512"),
    ({"resolution": 32}, (600, 511), "smaller than the smallest bucket, 64x64"),
    ({"framing": "crop", "resolution": 520}, (600, 600), "520 is not a multiple of 64"),
])  # fmt: skip
def test_what_fits_no_bucket_is_named_with_the_way_out(settings, size, reason):
    with pytest.raises(DataError, match=reason):
        assign(np.array([(512, 640), size]), section(**settings), 64, ["a.png", "b.png"])


def test_the_report_counts_visits_scales_and_what_is_cropped():
    settings = section()
    sizes = np.array([(1024, 1024), (512, 512), (1280, 768), (1000, 600)])
    shapes = assign(sizes, settings, 64)
    square, wide = bucket_report(shapes, sizes, [10, 1, 3, 3], settings, epochs=2, batch=8)
    assert (square.bucket, square.photos, square.views, square.filled) == (Bucket(512, 512), 2, 11, 2)
    assert (square.scale, square.cropped) == (0.75, 0)
    assert (wide.bucket, wide.photos, wide.views, wide.filled) == (Bucket(640, 384), 2, 6, 4)
    assert wide.scale == pytest.approx((0.5 + 0.64) / 2) and wide.cropped == pytest.approx(0, abs=1e-9)
    assert [line.split() for line in bucket_lines([square])][1] == ["512x512", "2", "11", "0.75", "0.0%", "+2"]
    cropped = bucket_report(assign(sizes, section(framing="crop"), 64), sizes, [1] * 4, section(framing="crop"), 1, 1)
    assert cropped[0].scale == 1 and cropped[0].cropped == pytest.approx(1 - 512**2 * np.mean(1 / sizes.prod(1)))
