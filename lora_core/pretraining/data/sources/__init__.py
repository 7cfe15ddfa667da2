"""Where photographs and captions come from: one module a kind, each a generator of what it finds."""

from collections.abc import Callable, Iterator
from pathlib import Path

from lora_core.pretraining.data.sources import classes, coco, folder, hub, shards, synthetic
from lora_core.pretraining.data.sources.entry import Found, Reject
from lora_core.pretraining.recipe import DataSection

ENTRIES: dict[str, Callable[[DataSection, int, Path], Iterator[Found | Reject]]] = {
    "folder": folder.entries,
    "classes": classes.entries,
    "coco": coco.entries,
    "shards": shards.entries,
    "hub": hub.entries,
    "synthetic": synthetic.entries,
}
"""By `data.source`; called with the section, the seed, and a folder that may be written."""
