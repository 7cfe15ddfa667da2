"""A Hugging Face data set, from the hub or from a local folder, by the optional package `datasets`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_core.errors import ConfigError, DataError
from lora_core.pretraining.data.sources.entry import Found, Reject
from lora_core.pretraining.data.sources.importing import Sample, imported
from lora_core.pretraining.data.sources.listing import signature
from lora_core.pretraining.data.sources.shards import shard_entries
from lora_core.pretraining.recipe import DataSection

_CAPTIONS = ("caption", "captions", "text", "sentences", "sentence")
_SAVED = ("state.json", "dataset_dict.json")


def entries(section: DataSection, seed: int, folder: Path) -> Iterator[Found | Reject]:
    """Imports the split `train` into shards under `folder`/import and goes through these.

    Raises:
        ConfigError: the package `datasets` is missing.
        DataError: the data set cannot be opened, or has no column of images.
    """
    origin = {"path": section.path, "signature": signature([Path(section.path)])}
    for shard in imported(folder / "import", origin, lambda first: _samples(section.path, first)):
        yield from shard_entries(shard)


def _samples(path: str, first: int) -> Iterator[Sample]:
    rows = _open(path)
    features = rows.features or {}
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if not images:
        raise DataError(f"{path} has no column of images, only {', '.join(features) or 'columns of unknown type'}")
    caption = next((name for name in _CAPTIONS if name in features), None)
    import datasets

    wanted = [images[0], *([caption] if caption else [])]
    rows = rows.select_columns(wanted).cast_column(images[0], datasets.Image(decode=False))
    try:
        for row in rows.skip(first):
            yield _bytes(row[images[0]]), row[caption] if caption else None
    except Exception as error:  # of the network, of the files' format, …
        raise DataError(f"cannot go on reading the data set {path}: {_told(error)}; start again to go on") from error


def _open(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            'data.source=hub needs the package datasets: pip install "photo-enhancer[datasets]"'
        ) from error
    try:
        if any((Path(path) / name).is_file() for name in _SAVED):
            rows = datasets.load_from_disk(path)
            return rows["train"] if isinstance(rows, datasets.DatasetDict) else rows
        return datasets.load_dataset(path, split="train", streaming=True)
    except Exception as error:  # the package raises many kinds
        raise DataError(f"data.path: cannot open the data set {path}, split train: {_told(error)}") from error


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _bytes(value: dict[str, Any] | None) -> bytes | None:
    """The encoded image; None where there is none, or only a path that leads to nothing."""
    if value is None or value.get("bytes") is not None:
        return value["bytes"] if value else None
    path = Path(value.get("path") or "")
    return path.read_bytes() if path.is_file() else None
