"""Folders of degraded twins: only what is new or changed is made, and nobody else's file is ever overwritten."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from lora_core.degradation.manifest import Journal, Record, open_journal, read_manifest, write_manifest
from lora_core.degradation.pipeline import degrade
from lora_core.degradation.presets import recipe_of
from lora_core.errors import DataError
from lora_core.experiment import DegradationSection
from lora_core.files import file_digest, value_digest, write_with
from lora_core.images import Unreadable, encode_image, list_photos, read_rgb
from lora_core.room import Room
from lora_core.share import WHOLE, Share

# A photograph takes up to 90 bytes a pixel while it is degraded, so this many pixels at once take about 4 GB.
_PIXELS_AT_ONCE = 50_000_000


@dataclass(frozen=True)
class DegradedFolder:
    """What `degrade_folder` did.

    Attributes:
        made: twins written by this call, in the order of the photographs.
        kept: twins that were there already and still fit.
        unreadable: photographs that could not be read, with the reason.
        surplus: degraded photographs without a clean one; they are left alone.
    """

    made: tuple[Path, ...]
    kept: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...]
    surplus: tuple[Path, ...]


def degrade_folder(
    photos: list[Path],
    destination: Path,
    section: DegradationSection,
    workers: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    digest: Callable[[Path], str] = file_digest,
    share: Share = WHOLE,
) -> DegradedFolder:
    """Writes the degraded twin of each photograph under the same file name and size, with a manifest.

    A twin is made again when it is missing or altered, or when its photograph, the preset, the seed or the recipe's
    ranges changed. A run that is killed loses nothing that it has put in place. A share of the photographs leaves the
    manifest, and the refusal of a folder in which none can be read, to the run that does the whole afterwards.

    Args:
        photos: clean photographs, from any folders; never written.
        destination: folder of the twins, created where it is missing.
        section: preset and seed.
        workers: threads; by default one a processor.
        progress: called with (photographs done, photographs in all).
        digest: sha256 of a photograph's or a twin's file, which a caller may remember.
        share: makes the twins of these photographs alone.

    Raises:
        DataError: no photograph, none that can be read, two of one name, or a twin that is not ours to overwrite.
        ConfigError: the preset is `own`.
        ResourceError: the destination cannot be written.
    """
    recipe = recipe_digest(section)
    _check_photos(photos, destination)
    there = list_photos(destination) if destination.is_dir() else []  # others may be adding: records come before twins
    records = read_manifest(destination)
    surplus = _surplus(photos, destination, there, records)
    photos = share.of(photos)
    with open_journal(destination, records, share) as journal:
        maker = _Maker(destination, section, recipe, records, journal, digest)
        outcomes = _each(maker.make, photos, workers, progress)
    unreadable = tuple(outcome for outcome in outcomes if isinstance(outcome, Unreadable))
    if share.whole and len(unreadable) == len(photos):
        first = unreadable[0]
        raise DataError(f"none of the {len(photos)} photographs can be read; the first: {first.path}: {first.reason}")
    made = {outcome.file: outcome for outcome in outcomes if isinstance(outcome, Record)}
    if share.whole:
        present = {name: record for name, record in (records | made).items() if (destination / name).exists()}
        write_manifest(destination, present)
    lost = {problem.path.name for problem in unreadable}
    twins = [destination / photo.name for photo in photos if photo.name not in lost]
    return DegradedFolder(
        made=tuple(twin for twin in twins if twin.name in made),
        kept=tuple(twin for twin in twins if twin.name not in made),
        unreadable=unreadable,
        surplus=surplus,
    )


def recipe_digest(section: DegradationSection) -> str:
    """sha256 over preset, seed and the ranges of the recipe."""
    return value_digest({**section.model_dump(), "recipe": asdict(recipe_of(section.preset))})


def unmade(photos: list[Path], destination: Path, section: DegradationSection) -> int:
    """How many photographs have no twin by this recipe on record; altered files are not looked for."""
    recipe, records = recipe_digest(section), read_manifest(destination)
    made = {name for name, record in records.items() if record.recipe == recipe and (destination / name).is_file()}
    return sum(photo.name not in made for photo in photos)


@dataclass(frozen=True)
class _Kept:
    """The twin on the disk is what would be made."""


class _Maker:
    """Makes one twin at a time, from any thread."""

    def __init__(
        self,
        destination: Path,
        section: DegradationSection,
        recipe: str,
        records: dict[str, Record],
        journal: Journal,
        digest: Callable[[Path], str],
    ) -> None:
        self._destination = destination
        self._section = section
        self._recipe = recipe
        self._records = records
        self._journal = journal
        self._room = Room(_PIXELS_AT_ONCE)
        self._digest = digest

    def make(self, photo: Path) -> Record | _Kept | Unreadable:
        """The record of a new twin, or why there is none."""
        twin = self._destination / photo.name
        try:
            source = self._digest(photo)
            if self._fits(twin, source):
                return _Kept()
            rgb = read_rgb(photo)
        except OSError as error:
            return Unreadable(photo, error.strerror or str(error))
        except DataError as error:
            return Unreadable(photo, str(error).removeprefix(f"{photo}: "))
        with self._room.take(rgb[..., 0].size):
            degraded = degrade(rgb, self._section.preset, source, self._section.seed)
        data = encode_image(degraded.rgb, photo.suffix)
        record = Record(
            file=photo.name,
            source=source,
            output=sha256(data).hexdigest(),
            preset=self._section.preset,
            seed=self._section.seed,
            recipe=self._recipe,
            parameters=degraded.parameters,
        )
        self._journal.add(record)
        write_with(twin, lambda name: name.write_bytes(data))
        return record

    def _fits(self, twin: Path, source: str) -> bool:
        known = self._records.get(twin.name)
        return (
            known is not None
            and (known.source, known.recipe) == (source, self._recipe)
            and twin.is_file()
            and self._digest(twin) == known.output
        )


def _each(
    make: Callable[[Path], Record | _Kept | Unreadable],
    photos: list[Path],
    workers: int | None,
    progress: Callable[[int, int], object],
) -> list[Record | _Kept | Unreadable]:
    """Applies `make` in threads: OpenCV, Pillow, NumPy and hashing release the interpreter lock."""
    outcomes = []
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        for outcome in pool.map(make, photos):
            outcomes.append(outcome)
            progress(len(outcomes), len(photos))
    finally:
        pool.shutdown(cancel_futures=True)
    return outcomes


def _check_photos(photos: list[Path], destination: Path) -> None:
    if not photos:
        raise DataError(f"there are no photographs to degrade into {destination}")
    if destination.resolve() in {folder.resolve() for folder in {photo.parent for photo in photos}}:
        raise DataError(f"{destination} holds clean photographs; the degraded ones need a folder of their own")
    first_of_stem: dict[str, Path] = {}
    for photo in photos:
        other = first_of_stem.setdefault(photo.stem, photo)
        if other is not photo:
            raise DataError(f"{other} and {photo} would have one degraded photograph; rename one of them")


def _surplus(photos: list[Path], destination: Path, there: list[Path], records: dict[str, Record]) -> tuple[Path, ...]:
    """The surplus twins; refuses to touch photographs that are not on record."""
    names, stems = {photo.name for photo in photos}, {photo.stem for photo in photos}
    surplus = []
    for twin in there:
        if twin.name not in records and twin.stem in stems:
            raise DataError(
                f"{twin} was not made by this program and is never overwritten; set degradation.preset=own to train on "
                f"the photographs in {destination.name}, or move them away"
            )
        if twin.name not in names:
            surplus.append(twin)
    return tuple(surplus)
