"""Rows that stand beside every candidate: the input itself, the autoencoder's round trip, classical filters."""

from collections.abc import Sequence

from lora_core.bases.base import Base, to_pixels, to_rgb
from lora_core.classical import CLASSICAL
from lora_core.files import value_digest
from lora_core.images import read_rgb, write_png
from lora_core.restoration import padded
from lora_core.sweep.cells import finished, picture_path, write_manifest
from lora_core.sweep.grid import Reference
from lora_core.workspace import StudyFolder


def references_of(common: str) -> list[Reference]:
    """Every reference; `common` is the grid's digest."""
    names = ["input", "autoencoder", *CLASSICAL]
    return [
        Reference(f"reference_{name.replace(' ', '-')}_{value_digest([common, name])[:10]}", name) for name in names
    ]


def save_references(study: StudyFolder, references: Sequence[Reference], names: Sequence[str], base: Base) -> None:
    """Makes the references' pictures that are missing."""
    for reference in references:
        if finished(study, reference.id, names):
            continue
        for name in names:
            half = "original" if reference.name == "autoencoder" else "degraded"
            picture = read_rgb(study.root / "test" / half / f"{name}.png")
            if reference.name == "autoencoder":
                pixels = to_pixels(padded(picture, base.multiple)[None])
                restored = to_rgb(base.decode(base.encode(pixels)))[0][: picture.shape[0], : picture.shape[1]]
            else:
                restored = CLASSICAL.get(reference.name, lambda same: same)(picture)
            write_png(picture_path(study, reference.id, name), restored)
        write_manifest(study, reference.row(), names)
