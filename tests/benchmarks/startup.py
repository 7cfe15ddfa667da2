"""What a data set of 100,000 photographs costs before the first step: memory, and seconds of each start.

    python tests/benchmarks/startup.py [COUNT]

The photographs are hard links to a few small JPEGs, the captions all differ, there are three buckets. The latents are
random numbers, written by the cache's own writer, because a processor would encode for hours; what is measured is
opening them and reading batches. Memory is the growth of the resident set over what it was when all libraries were
loaded, its peak included; processor seconds are those of the process, the other seconds a busy machine's too.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lora_core.data.latents import Encoder, open_views
from lora_core.data.pairs import pairs_digest, training_pairs
from lora_core.data.shapes import shapes_of
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.training.plan import Plan
from lora_core.workspace import Workspace

T = TypeVar("T")
MIB, LIMIT_MIB, LIMIT_SECONDS = 2**20, 200, 15
SIZES = ((64, 48), (48, 64), (56, 56))
A_SIZE = 8  # different files of each size and half
BATCH = 8


def settings() -> Experiment:
    """Buckets of 32 x 32 pixels' area, captions from a file, latents in half precision."""
    chosen = ["data.resolution=32", "data.views=1", "data.framing=bucket", "data.bucket_step=8", "data.captions=files",
              "base.precision=bf16", f"training.batch={BATCH}"]  # fmt: skip
    return apply_overrides(load_preset("pocket"), chosen)


def base() -> Any:
    """As much of a base as opening a cache looks at; the pocket base's latents, 16 channels of a quarter of a side."""
    return SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace(latent_channels=16)), factor=4, multiple=8)


def make_workspace(root: Path, count: int) -> None:
    """The photographs and their captions."""
    workspace = Workspace(root)
    workspace.create()
    draw = np.random.default_rng(0)
    for half in (workspace.targets, workspace.degraded):
        sources = []
        for number in range(A_SIZE * len(SIZES)):
            width, height = SIZES[number % len(SIZES)]
            path = root / f"{half.parent.name}-{number}.jpg"
            Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(path)
            sources.append(path)
        for number in range(count):
            os.link(sources[number % len(sources)], half / f"photograph-{number:07d}.jpg")
    with (workspace.targets / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            caption = f"a photograph of number {number} of many, with a caption of usual length"
            file.write(json.dumps({"file_name": f"photograph-{number:07d}.jpg", "text": caption}) + "\n")


def make_cache(root: Path) -> None:
    """The cache of latents, with random numbers in it."""
    workspace, experiment = Workspace(root), settings()
    pairs = training_pairs(workspace, experiment)
    shapes = shapes_of(workspace, experiment, pairs, base().multiple)
    draw = np.random.default_rng(0)

    def encode(encoder: Encoder, samples: list[tuple[int, int]], _: object) -> np.ndarray:
        values = encoder.layout.place(samples[0])[2]
        return draw.standard_normal((len(samples), values), np.float32).astype(encoder.layout.dtype)

    with mock.patch.multiple(Encoder, encode=encode, cut=lambda *_: []):
        open_views(workspace, experiment, pairs, shapes, base(), "base")


class Memory:
    """Growth of the resident set, looked at fifty times a second."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.peak = 0.0
        self._end = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        """MiB over the beginning."""
        growth = (self._process.memory_info().rss - self._before) / MIB
        self.peak = max(self.peak, growth)
        return growth

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.now()


def measure(root: Path) -> bool:
    """Prints the table; returns whether the limits hold."""
    workspace, experiment = Workspace(root), settings()
    memory, seconds = Memory(), {}

    def stage(name: str, work: Callable[[], T]) -> T:
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        seconds[name], busy = time.perf_counter() - start, time.process_time() - busy
        print(f"{name:<34}{seconds[name]:>9.2f}{busy:>11.2f}{memory.now():>8.0f}{memory.peak:>10.0f}", flush=True)
        return result

    print(f"{'':<34}{'seconds':>9}{'processor':>11}{'MiB':>8}{'peak MiB':>10}")
    pairs = stage("listing, pairing, captions", lambda: training_pairs(workspace, experiment))
    stage("digest, every file read", lambda: pairs_digest(pairs, workspace))
    stage("digest, from the store", lambda: pairs_digest(pairs, workspace))
    stage("buckets, every header read", lambda: shapes_of(workspace, experiment, pairs, 8))
    shapes = stage("buckets, from the store", lambda: shapes_of(workspace, experiment, pairs, 8))
    plan = stage("plan of the run", lambda: Plan.of(experiment, pairs, shapes.index))
    views = stage("opening the latents", lambda: open_views(workspace, experiment, pairs, shapes, base(), "base"))

    def read() -> None:
        for update in range(1000):
            views.rows([plan.sample(position) for position in plan.positions(update, 0, 0)])

    stage(f"1,000 batches of {BATCH}", read)
    start = sum(value for name, value in seconds.items() if "read" not in name and "batches" not in name)
    for what, value, limit in (
        ("start, nothing changed: seconds", start, LIMIT_SECONDS),
        ("peak MiB", memory.peak, LIMIT_MIB),
    ):
        print(f"{what:<34}{value:>9.1f}   limit {limit}: {'kept' if value <= limit else 'EXCEEDED'}")
    return start <= LIMIT_SECONDS and memory.peak <= LIMIT_MIB


def main() -> None:
    """Makes the workspace in other processes, then measures."""
    parser = argparse.ArgumentParser(description="Measure the start of a run on many photographs.")
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_workspace, root, count).result()
            time.sleep(3)  # what changed in the last two seconds is not remembered
            pool.submit(make_cache, root).result()
        size = sum(file.stat().st_size for file in Workspace(root).cache.glob("latents-*/*")) / MIB
        Workspace(root).digests.unlink()
        print(f"{count:,} pairs, {os.cpu_count()} processors, a cache of {size:,.0f} MiB of latents")
        sys.exit(0 if measure(root) else 1)


if __name__ == "__main__":
    main()
