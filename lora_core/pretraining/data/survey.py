"""The survey: every record of a source is looked at once, before training, and named where it cannot be used."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lora_core.errors import DataError
from lora_core.files import read_json, value_digest, whole_file, write_json
from lora_core.images import header_size
from lora_core.pretraining.data.records import ManifestWriter, Record, RecordSet, SetName, open_manifest, read_bytes
from lora_core.pretraining.data.sources import ENTRIES
from lora_core.pretraining.data.sources.coco import annotations_of
from lora_core.pretraining.data.sources.entry import Found, Reject
from lora_core.pretraining.data.sources.listing import signature
from lora_core.pretraining.recipe import DataSection, Recipe

_VERSION = 1
# Almost every header ends before; where it does not, the whole image is read.
_HEAD = 2**16
_NAMED = 3


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Attributes:
        folder: where the manifest is.
        digest: of the manifest: names, captions, places and sizes, and which set they are in.
        train: records to train on.
        validation: records to validate with.
        rejected: records that cannot be used, each a line of rejects.jsonl.
        without_caption: usable records with the empty caption.
        reasons: rejects by kind.
    """

    folder: Path
    digest: str
    train: int
    validation: int
    rejected: int
    without_caption: int
    reasons: dict[str, int]

    def records(self, name: SetName) -> RecordSet:
        """Opens one set."""
        return RecordSet(self.folder / "manifest", name)


def survey(recipe: Recipe, folder: Path, progress: Callable[[int], object] = lambda _: None) -> Survey:
    """Looks at every record of the recipe's source, unless that was done and nothing changed since.

    Args:
        folder: of the survey alone; gets manifest/, rejects.jsonl, survey.json and, of some sources, import/.
        progress: called with the number of records looked at.

    Raises:
        DataError: the source is missing or is not as its kind should be, no record can be used, one of the two sets
            is empty, or more is rejected than data.reject_limit allows.
        ConfigError: a package that the source needs is missing.
        ResourceError: the folder cannot be written.
    """
    recipe = _from_home(recipe)
    section, done = recipe.data, folder / "survey.json"
    _require_source(section)
    if section.train_split == 1:
        raise DataError("data.train_split is 1.0, which leaves nothing to validate with; set it below 1, e.g. 0.95")
    key = _key(recipe, folder)
    if done.exists() and (known := read_json(done)).pop("key", None) == key:
        return Survey(folder=folder, **known)
    done.unlink(missing_ok=True)  # it must never stand beside the manifest of another source
    with open_manifest(folder / "manifest", section.train_split, recipe.seed) as manifest:
        tally = _collect(recipe, folder, manifest, progress)
        _require_enough(section, tally, manifest.counts, folder / "rejects.jsonl")
        result = Survey(
            folder=folder,
            digest=manifest.digest,
            **manifest.counts,
            rejected=tally.rejected,
            without_caption=tally.without_caption,
            reasons=dict(tally.reasons.most_common()),
        )
    write_json(done, {name: value for name, value in asdict(result).items() if name != "folder"} | {"key": key})
    return result


@dataclass
class _Tally:
    usable: int = 0
    without_caption: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[Reject] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        return self.reasons.total()


def _collect(recipe: Recipe, folder: Path, manifest: ManifestWriter, progress: Callable[[int], object]) -> _Tally:
    """Writes the usable records to the manifest and the others to rejects.jsonl."""
    section, tally = recipe.data, _Tally()
    with (
        whole_file(folder / "rejects.jsonl") as temporary,
        # A file name may be no Unicode; then its bytes are written as escapes.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as rejects,
    ):
        for entry in ENTRIES[section.source](section, recipe.seed, folder):
            record = entry if isinstance(entry, Reject) else _checked(entry, section)
            if isinstance(record, Record):
                manifest.add(record)
                tally.usable += 1
                tally.without_caption += not record.caption
            else:
                rejects.write(json.dumps({"name": record.name, "reason": record.reason}, ensure_ascii=False) + "\n")
                tally.reasons[record.kind] += 1
                tally.first = [*tally.first, record][:_NAMED]
            progress(tally.usable + tally.rejected)
            if tally.usable == section.num_samples:
                break
    return tally


def _checked(found: Found, section: DataSection) -> Record | Reject:
    try:
        (found.name + found.caption).encode()
    except UnicodeEncodeError:
        return Reject(found.name, "not Unicode", "has a name or caption that is no valid Unicode; rename or correct it")
    if not found.caption and section.missing_captions == "reject":
        return Reject(found.name, "image without caption", "has no caption; data.missing_captions=empty would allow it")
    try:
        width, height = _size(found)
    except DataError as error:
        return Reject(found.name, "undecodable image", f"cannot be decoded: {_reason(error, found)}")
    if min(width, height) < section.image_size:
        return Reject(found.name, "too small", f"is {width}x{height}, below image_size {section.image_size}")
    return Record(found.name, found.caption, found.file, found.offset, found.length, width, height)


def _reason(error: DataError, found: Found) -> str:
    return str(error).removeprefix(f"{found.name}: ")


def _size(found: Found) -> tuple[int, int]:
    head = read_bytes(found.file, found.offset, min(found.length, _HEAD))
    try:
        return header_size(head, found.name)
    except DataError:
        if found.length <= _HEAD:
            raise
        return header_size(read_bytes(found.file, found.offset, found.length), found.name)


def _from_home(recipe: Recipe) -> Recipe:
    """The recipe with ~ replaced: no shell has read the file."""
    paths = {"path": recipe.data.path, "annotations": recipe.data.annotations}
    expanded = {key: os.path.expanduser(path) for key, path in paths.items() if path}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=expanded)})


def _require_source(section: DataSection) -> None:
    if section.source == "synthetic":
        return
    if not section.path:
        raise DataError(f"data.path is empty; set it to the photographs of data.source={section.source}")
    path = Path(section.path)
    if section.source != "hub" and not (path.is_dir() or (section.source == "shards" and path.is_file())):
        raise DataError(f"data.path: there is no folder {path}; set it to the photographs")


def _key(recipe: Recipe, folder: Path) -> str:
    """Everything that decides the manifest, places included."""
    section = recipe.data
    path = Path(section.path)
    paths = [] if section.source == "synthetic" else [path]
    if section.source == "coco":
        paths.append(annotations_of(section))
    places = [str(place.absolute()) for place in (folder, *paths) if place is folder or place.exists()]
    return value_digest([_VERSION, recipe.digest_of("data"), places, signature(paths)])


def _require_enough(section: DataSection, tally: _Tally, counts: dict[SetName, int], rejects: Path) -> None:
    place = section.path or section.source
    reasons = ", ".join(f"{count} {kind}" for kind, count in tally.reasons.most_common())
    examples = "; ".join(f"{reject.name} {reject.reason}" for reject in tally.first)
    named = f"{reasons}; the first: {examples}; all are in {rejects}"
    if not tally.usable:
        found = f"{tally.rejected} rejected: {named}" if tally.rejected else f"it is no data.source={section.source}"
        raise DataError(f"no usable photograph in {place}: {found}")
    if tally.rejected > section.reject_limit * (tally.usable + tally.rejected):
        raise DataError(
            f"{tally.rejected} of {tally.usable + tally.rejected} records in {place} cannot be used, more than "
            f"data.reject_limit = {section.reject_limit:g} allows: {named}; mend them or raise data.reject_limit"
        )
    for name, count in counts.items():
        if not count:
            change = "raise" if name == "train" else "lower"
            raise DataError(
                f"the {name} set is empty: data.train_split = {section.train_split:g} of {tally.usable} photographs "
                f"gave {counts['train']} to train on and {counts['validation']} to validate with; bring more "
                f"photographs or {change} data.train_split"
            )
