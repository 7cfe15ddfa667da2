import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lora_core.errors import DataError
from lora_core.images import check_photos, list_photos, read_photo, read_rgb, write_image, write_png

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ORIENTATION = 0x0112
# From the stored samples to the upright picture, as the EXIF standard draws it.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
D50 = (0.9642, 1.0, 0.8249)
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth, coloured, and unlike each of its mirror images."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 9 + y / 5)]).astype(np.uint8)


def deep_picture(channels: int) -> np.ndarray:
    """Every kind of rounding: random 16-bit samples, and the two beside each boundary between 8-bit levels."""
    boundaries = np.concatenate([np.arange(255) * 257 + 128, np.arange(255) * 257 + 129])
    samples = np.concatenate([boundaries, np.random.default_rng(0).integers(0, 65536, 30 * 40 * channels)])
    return samples[: 30 * 40 * channels].astype(np.uint16).reshape(30, 40, channels)


def rounded(deep: np.ndarray) -> np.ndarray:
    return np.rint(deep / 257).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def icc_profile(space: bytes, primaries: tuple[tuple[float, ...], ...], gamma: float, description: str) -> bytes:
    """A version 2 display profile: light is the encoded value to the power of gamma."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    name = description.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78,
        b"wtpt": xyz(D50),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    for channel, primary in zip("rgb", primaries, strict=False):
        tags[f"{channel}XYZ".encode()] = xyz(primary)
        tags[f"{channel}TRC".encode()] = curve
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for signature, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += signature + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"\0" * 4, 0x02200000, b"mntr", space, b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(struct.pack(">i", round(v * 65536)) for v in D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def srgb_of_gamma(levels: np.ndarray, gamma: float) -> np.ndarray:
    light = (levels / 255) ** gamma
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_orientation_is_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(picture()).save(path, exif=exif, **options)
    difference = read_rgb(path).astype(int) - UPRIGHT[orientation](picture())
    assert np.abs(difference).max() <= (4 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", [3, 5, 8])
def test_deep_files_are_turned_upright_too(tmp_path: Path, orientation: int) -> None:
    deep = deep_picture(3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    encoded = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    after_header = 8 + 25
    data = encoded[:after_header] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + encoded[after_header:]
    (tmp_path / "photo.png").write_bytes(data)
    np.testing.assert_array_equal(read_rgb(tmp_path / "photo.png"), UPRIGHT[orientation](rounded(deep)))
    tags = [(ORIENTATION, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "photo.tif", deep, photometric="rgb", extratags=tags)
    np.testing.assert_array_equal(read_rgb(tmp_path / "photo.tif"), UPRIGHT[orientation](rounded(deep)))


def test_palette_with_transparency_keeps_colours_and_alpha_apart(tmp_path: Path) -> None:
    palette = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
    index = (np.arange(60).reshape(6, 10) % 3).astype(np.uint8)
    image = Image.fromarray(index, mode="P")
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "photo.png", transparency=1)
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(photo.rgb, palette[index])
    np.testing.assert_array_equal(photo.alpha, np.where(index == 1, 0, 255))


def test_grey_grey_with_alpha_and_bilevel_are_expanded(tmp_path: Path) -> None:
    grey, alpha = picture()[..., 0], picture()[..., 1]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(tmp_path / "grey-alpha.png")
    Image.fromarray(grey > 99).save(tmp_path / "bilevel.png")
    expanded = np.repeat(grey[..., None], 3, axis=2)
    plain, transparent = read_photo(tmp_path / "grey.png"), read_photo(tmp_path / "grey-alpha.png")
    np.testing.assert_array_equal(plain.rgb, expanded)
    assert plain.alpha is None
    np.testing.assert_array_equal(transparent.rgb, expanded)
    np.testing.assert_array_equal(transparent.alpha, alpha)
    np.testing.assert_array_equal(read_rgb(tmp_path / "bilevel.png")[..., 2], np.where(grey > 99, 255, 0))


def test_cmyk_jpeg_has_the_right_polarity(tmp_path: Path) -> None:
    inks = np.zeros((16, 64, 4), np.uint8)
    inks[:, 16:32, 0] = inks[:, 32:48, 2] = inks[:, 48:, 3] = 255  # paper, cyan, yellow, black
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    colours = read_rgb(tmp_path / "photo.jpg")[8, 8::16].astype(int)
    expected = [[255, 255, 255], [0, 255, 255], [255, 255, 0], [0, 0, 0]]
    assert np.abs(colours - expected).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = deep_picture(channels)
    expected = rounded(deep)
    assert not np.array_equal(expected, deep >> 8)
    order = [[0], [2, 1, 0], [2, 1, 0, 3]][max(0, channels - 2)]
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(cv2.imencode(suffix, deep[..., order])[1].tobytes())
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.rgb, np.broadcast_to(expected[..., :3], (30, 40, 3)))
    assert (photo.alpha is None) == (channels < 4)
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, expected[..., 3])


def test_white_is_zero_tiff_is_no_negative(tmp_path: Path) -> None:
    deep = deep_picture(1)[..., 0]
    tifffile.imwrite(tmp_path / "photo.tif", 65535 - deep, photometric="miniswhite")
    np.testing.assert_array_equal(read_rgb(tmp_path / "photo.tif")[..., 1], rounded(deep))


@pytest.mark.parametrize("deep", [False, True])
def test_a_colour_profile_is_converted(tmp_path: Path, deep: bool) -> None:
    """Green and red swapped and light encoded linearly: both must be undone."""
    profile = icc_profile(b"RGB ", (SRGB_PRIMARIES[1], SRGB_PRIMARIES[0], SRGB_PRIMARIES[2]), 1, "Linear sRGB, swapped")
    stored = picture()
    path = tmp_path / "photo.png"
    if deep:
        encoded = cv2.imencode(".png", stored[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        path.write_bytes(encoded[:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)) + encoded[33:])
    else:
        Image.fromarray(stored).save(path, icc_profile=profile)
    assert np.abs(read_rgb(path) - srgb_of_gamma(stored[..., [1, 0, 2]], 1)).max() <= 2


@pytest.mark.parametrize("alpha", [False, True])
def test_a_grey_profile_is_converted(tmp_path: Path, alpha: bool) -> None:
    grey = Image.fromarray(picture()[..., 0])
    image = Image.merge("LA", [grey, grey]) if alpha else grey
    image.save(tmp_path / "photo.png", icc_profile=icc_profile(b"GRAY", (), 1.5, "grey"))
    expected = srgb_of_gamma(picture()[..., :1], 1.5)
    assert np.abs(read_rgb(tmp_path / "photo.png") - expected).max() <= 2


def test_an_srgb_profile_changes_nothing_and_a_foreign_one_is_ignored(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, icc_profile(b"GRAY", (), 1.5, "grey")):
        Image.fromarray(picture()).save(tmp_path / "photo.png", icc_profile=profile)
        np.testing.assert_array_equal(read_rgb(tmp_path / "photo.png"), picture())


def jpeg_bytes(**options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(200, 300)).save(data, format="JPEG", **options)
    return data.getvalue()


def tiff_bytes(samples: np.ndarray, **options: object) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, samples, **options)
    return data.getvalue()


BOMB = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
DAMAGED = {
    "truncated.jpg": jpeg_bytes()[:3000],
    "truncated deep.png": cv2.imencode(".png", deep_picture(3))[1].tobytes()[:2000],
    "text.jpg": b"this is a letter, not a photograph\n",
    "empty.png": b"",
    "bomb.png": b"\x89PNG\r\n\x1a\n" + BOMB + chunk(b"IEND", b""),
    "profile.jpg": jpeg_bytes(icc_profile=b"no profile"),
    "float.tif": tiff_bytes(np.zeros((8, 8), np.float32)),
    "signed.tif": tiff_bytes(np.zeros((8, 8), np.int16)),
    "planar.tif": tiff_bytes(deep_picture(3).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    with pytest.raises(DataError) as caught:
        read_photo(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message) > len(f"{path}: ") + 5 and "\n" not in message


def test_a_missing_file_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_photo(tmp_path / "gone.jpg")
    assert str(caught.value) == f"{tmp_path / 'gone.jpg'}: No such file or directory"


def test_damage_never_escapes_as_another_exception(tmp_path: Path) -> None:
    """Files with flipped bytes in their headers are read or refused."""
    draw = np.random.default_rng(1)
    originals = {".jpg": jpeg_bytes(), ".png": cv2.imencode(".png", deep_picture(3))[1].tobytes()}
    originals[".tif"] = cv2.imencode(".tif", picture())[1].tobytes()
    refused = 0
    for suffix, original in originals.items():
        for _ in range(25):
            data = bytearray(original)
            for place in draw.integers(0, min(len(data), 300), 3):
                data[place] = draw.integers(256)
            path = tmp_path / f"photo{suffix}"
            path.write_bytes(data)
            try:
                assert read_rgb(path).dtype == np.uint8
            except DataError:
                refused += 1
    assert refused > 25


def test_folders_list_photographs_alone_in_name_order(tmp_path: Path) -> None:
    names = ["b and c.JPG", "a.png", "Straße 3.jpeg", "写真.webp", "Z.tiff"]
    for name in [*names, ".hidden.jpg", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "a.txt", "a.jpg.part"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == sorted(names)
    with pytest.raises(DataError, match="is not a folder"):
        list_photos(tmp_path / "absent")


def test_names_of_any_language_are_read_and_written(tmp_path: Path) -> None:
    for name in ("naïve café.png", "写真 1.webp", "снимок.bmp"):
        write_image(tmp_path / name, picture())
        np.testing.assert_array_equal(read_rgb(tmp_path / name), picture())


def test_check_photos_separates_and_gives_up_when_nothing_is_left(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", picture())
    (tmp_path / "bad.png").write_bytes(b"bad")
    seen: list[int] = []
    readable, unreadable = check_photos(list_photos(tmp_path), seen.append)
    assert ([path.name for path in readable], seen) == (["good.png"], [1, 2])
    assert (unreadable[0].path.name, unreadable[0].reason) == ("bad.png", "not an image file")
    with pytest.raises(DataError, match=r"none of the 1 photographs can be read; the first: .*bad\.png"):
        check_photos([tmp_path / "bad.png"])


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".PNG"])
def test_written_pictures_come_back(tmp_path: Path, photos: Path, suffix: str) -> None:
    original = read_rgb(photos / "coffee.png")
    write_image(tmp_path / f"photo{suffix}", original)
    difference = np.abs(read_rgb(tmp_path / f"photo{suffix}").astype(int) - original)
    if suffix.lower() in (".jpg", ".jpeg"):
        assert 0 < difference.mean() < 3
    else:
        assert difference.max() == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"photo{suffix}"]


def test_jpeg_keeps_the_resolution_of_colours(tmp_path: Path) -> None:
    """Red and blue columns of one pixel survive 4:4:4; with 4:2:0 they would turn purple."""
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    write_image(tmp_path / "photo.jpg", stripes)
    assert np.abs(read_rgb(tmp_path / "photo.jpg").astype(int) - stripes).max() < 12


def test_png_keeps_alpha(tmp_path: Path) -> None:
    write_png(tmp_path / "photo.png", picture(), picture()[..., 1])
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(photo.rgb, picture())
    np.testing.assert_array_equal(photo.alpha, picture()[..., 1])
