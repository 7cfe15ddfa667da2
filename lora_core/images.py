"""Reading and writing photographs faithfully.

A photograph enters as upright 8-bit sRGB: EXIF orientation is applied, an embedded colour profile is converted to
sRGB, palettes and grey are expanded, CMYK is converted through its profile, and 16-bit samples are rounded to 8 bits
(value / 257, not the high byte). Alpha is kept beside the colours and never mixed into them.
"""

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from lora_core.errors import DataError
from lora_core.files import write_with

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_ENDINGS = tuple(SUFFIXES)
_WRITERS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 100, "subsampling": "4:4:4"},
    ".jpeg": {"format": "JPEG", "quality": 100, "subsampling": "4:4:4"},
    ".png": {"format": "PNG", "compress_level": 1},
    ".bmp": {"format": "BMP"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
    ".tiff": {"format": "TIFF", "compression": "tiff_lzw"},
}
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO = 258, 262, 0
_PNG_BIT_DEPTH_OFFSET = 24
# What decoders raise on a damaged file, beside their own classes.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, cv2.error)


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        rgb: (height, width, 3) uint8, sRGB, upright.
        alpha: (height, width) uint8, or None where the file has no transparency.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None


@dataclass(frozen=True)
class Unreadable:
    """A file that has the suffix of a photograph and cannot be read as one."""

    path: Path
    reason: str


def list_photos(folder: Path) -> list[Path]:
    """The photographs directly in `folder`, in name order; hidden and system files are no photographs.

    Raises:
        DataError: the folder does not exist.
    """
    return [folder / name for name in photo_names(folder)]


def photo_names(folder: Path) -> list[str]:
    """The file names of `list_photos`: a sixth of its memory, which counts where there are many. Raises as it."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(_ENDINGS) and entry.name[0] != "." and entry.is_file()
        )


def stem(name: str) -> str:
    """A photograph's file name without its suffix."""
    return name.rpartition(".")[0]


def read_photo(path: Path) -> Photo:
    """Reads one photograph; of several frames or pages, the first.

    Raises:
        DataError: the file is missing, damaged, no image, or of a kind whose colours are not defined (float samples).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    return _read(data, str(path))


def read_rgb(path: Path) -> np.ndarray:
    """The colours of a photograph, (height, width, 3) uint8 sRGB. Raises as `read_photo`."""
    return read_photo(path).rgb


def read_rgb_bytes(data: bytes, name: str) -> np.ndarray:
    """The colours of a photograph in memory, (height, width, 3) uint8 sRGB.

    Args:
        data: the whole image file.
        name: stands in errors where `read_photo` has the path.

    Raises:
        DataError: as `read_photo`.
    """
    return _read(data, name).rgb


def header_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) in pixels by the header alone, as stored: before EXIF orientation.

    Args:
        data: the image file, or so much of its beginning that the header is whole.
        name: stands in errors.

    Raises:
        DataError: no header of an image that can be read.
    """
    with _explained(name), Image.open(io.BytesIO(data)) as image:
        return image.size


def photo_size(path: Path) -> tuple[int, int]:
    """(width, height) of what `read_photo` returns, by the header and the orientation alone.

    Raises:
        DataError: the file is missing or is no image.
    """
    with _explained(str(path)), Image.open(path) as image:
        if image.format == "TIFF":  # Pillow has turned the size already
            return image.size
        if image.format == "PNG" and not _png_says_more(path):
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) >= 5  # PNG's own decodes the pixels
        else:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if turned else image.size


def check_photos(
    paths: list[Path], progress: Callable[[int], object] = lambda _: None
) -> tuple[list[Path], list[Unreadable]]:
    """Decodes every file once and separates the readable from the others.

    Raises:
        DataError: files were given and none can be read.
    """
    readable, unreadable = [], []
    for number, path in enumerate(paths, 1):
        try:
            read_photo(path)
            readable.append(path)
        except DataError as error:
            unreadable.append(Unreadable(path, str(error).removeprefix(f"{path}: ")))
        progress(number)
    if unreadable and not readable:
        first = unreadable[0]
        raise DataError(f"none of the {len(paths)} photographs can be read; the first: {first.path}: {first.reason}")
    return readable, unreadable


def centre_crop(picture: np.ndarray, size: int | None) -> np.ndarray:
    """The middle (size, size, 3) of a picture, or all of a side that is shorter; None: the whole picture."""
    if size is None:
        return picture
    top, left = (max(0, (side - size) // 2) for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def write_png(path: Path, rgb: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Writes (height, width, 3) uint8 sRGB, with alpha beside it where given, whole or not at all."""
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    write_with(path, lambda name: Image.fromarray(pixels).save(name, **_WRITERS[".png"]))


def encode_image(rgb: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file: lossless, but for JPEG, which has quality 100 and chroma in full resolution.

    Args:
        rgb: (height, width, 3) uint8 sRGB.
        suffix: one of `SUFFIXES`, in either case.
    """
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, **_WRITERS[suffix.lower()])
    return data.getvalue()


def write_image(path: Path, rgb: np.ndarray) -> None:
    """Writes (height, width, 3) uint8 sRGB in the format of the suffix, whole or not at all; see `encode_image`."""
    data = encode_image(rgb, path.suffix)
    write_with(path, lambda name: name.write_bytes(data))


def _read(data: bytes, name: str) -> Photo:
    with _explained(name):
        return _to_photo(_decode(data))


def _png_says_more(path: Path) -> bool:
    """Whether a PNG has text or EXIF after its pixels, where the orientation may hide."""
    with path.open("rb") as file:
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            kind = head[4:]
            if pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what decoders raise into a DataError that begins with the name."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image file") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise DataError(f"{name}: {reason}") from error


def _decode(data: bytes) -> Image.Image:
    """The first frame, loaded; files of 16 bits a sample are rounded to 8."""
    image = Image.open(io.BytesIO(data))
    bits = 8
    if image.format == "PNG":
        bits = data[_PNG_BIT_DEPTH_OFFSET]
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO  # type: ignore[attr-defined]
    image.load()
    if bits == 16 and image.mode != "CMYK":
        return _rounded(image, data, white_is_zero)
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        raise ValueError(f"{bits}-bit samples of a kind that has no defined white; save it with 8 or 16 bits")
    return image


def _rounded(image: Image.Image, data: bytes, white_is_zero: bool) -> Image.Image:
    """The 8-bit image of a 16-bit file, by OpenCV, because Pillow keeps only the high byte of colours.

    Pillow's decoding of the same bytes must confirm it: OpenCV reads some layouts wrongly without saying so.
    """
    deep = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if deep.ndim == 3:
        deep = np.ascontiguousarray(deep[..., [2, 1, 0, 3][: deep.shape[2]]])
    if deep.dtype != np.uint16 or not _agree(deep, np.asarray(image)):
        raise ValueError("16-bit samples in a layout that cannot be read; save it as interleaved grey, RGB or RGBA")
    if white_is_zero:
        deep = np.invert(deep)
    rounded = Image.fromarray(((deep.astype(np.uint32) + 128) // 257).astype(np.uint8))
    # Transparency by colour is decoded to alpha already, and its 16-bit value would mean another colour here.
    rounded.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return rounded


def _agree(deep: np.ndarray, decoded: np.ndarray) -> bool:
    """Whether (h, w[, c]) uint16 and another decoding of it, uint16 or its high bytes, have the same colours."""
    if decoded.ndim == 2 and deep.ndim == 3:
        deep = deep[..., 0]
    elif decoded.ndim == 3 and deep.ndim == 3:
        deep, decoded = deep[..., :3], decoded[..., :3]
    return np.array_equal(np.right_shift(deep, 8) if decoded.dtype == np.uint8 else deep, decoded)


def _to_photo(image: Image.Image) -> Photo:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        alpha = np.array(image.getchannel("A"))
        image = image.convert(image.mode.removesuffix("A"))
    elif image.mode not in ("RGB", "CMYK", "L"):
        image = image.convert("RGB")
    return Photo(np.array(_to_srgb(image, profile)), alpha)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts through the embedded profile; one that is for another colour space than the image's is ignored."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[image.mode] == source.profile.xcolor_space.strip()
            if fits and not ImageCms.getProfileDescription(source).lower().startswith("srgb"):
                srgb = ImageCms.createProfile("sRGB")
                return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image.convert("RGB")
        except (OSError, ImageCms.PyCMSError) as error:
            raise ValueError(f"its colour profile cannot be used ({error}); convert it to sRGB") from error
    return image.convert("RGB")
