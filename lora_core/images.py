"""Reading and writing photographs faithfully.

A photograph enters as upright 8-bit sRGB: EXIF orientation is applied, an embedded colour profile is converted to
sRGB, palettes and grey are expanded, CMYK is converted through its profile, and 16-bit samples are rounded to 8 bits
(value / 257, not the high byte). Alpha is kept beside the colours and never mixed into them. Images are written as
PNG, so that a score is a score of what the user gets.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from lora_core.errors import DataError
from lora_core.files import write_with

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_DEEP_SUFFIXES = frozenset({".png", ".tif", ".tiff"})


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        rgb: (height, width, 3) uint8, sRGB, upright.
        alpha: (height, width) uint8, or None where the file has no transparency.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None

    def rgb8(self) -> np.ndarray:
        """The colours, (height, width, 3) uint8."""
        return self.rgb


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
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def read_photo(path: Path) -> Photo:
    """Reads one photograph.

    Raises:
        DataError: the file is missing, truncated, or no image.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() in _DEEP_SUFFIXES and (deep := _read_16_bit(data)) is not None:
            return deep
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _to_photo(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, ImageCms.PyCMSError) as error:
        raise DataError(f"{path}: {error}") from error


def read_rgb(path: Path) -> np.ndarray:
    """The colours of a photograph, (height, width, 3) uint8 sRGB. Raises as `read_photo`."""
    return read_photo(path).rgb


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


def write_png(path: Path, rgb: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Writes (height, width, 3) uint8 sRGB, with alpha beside it where given, whole or not at all."""
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    write_with(path, lambda name: Image.fromarray(pixels).save(name, format="PNG", compress_level=1))


def _read_16_bit(data: bytes) -> Photo | None:
    """A grey or RGB(A) file with 16 bits a sample, rounded to 8; None for every other file."""
    with Image.open(io.BytesIO(data)) as header:
        profile = header.info.get("icc_profile")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    eight = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if eight.ndim == 2:
        return Photo(np.repeat(eight[..., None], 3, axis=2))
    rgb = np.ascontiguousarray(eight[..., 2::-1])
    alpha = np.ascontiguousarray(eight[..., 3]) if eight.shape[2] == 4 else None
    return Photo(np.asarray(_to_srgb(Image.fromarray(rgb), profile)), alpha)


def _to_photo(image: Image.Image) -> Photo:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
        grey = np.floor(values / (257 if image.mode.startswith("I") else 1) + 0.5).clip(0, 255).astype(np.uint8)
        return Photo(np.repeat(grey[..., None], 3, axis=2))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("RGB")
    if image.mode not in ("RGB", "CMYK", "L", "LAB"):
        image = image.convert("RGB")
    return Photo(np.asarray(_to_srgb(image, profile)).copy(), alpha)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts through the embedded profile where there is one that fits the image's mode."""
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        fits = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}.get(image.mode) == space
        if fits and "srgb" not in ImageCms.getProfileDescription(source).lower():
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")
