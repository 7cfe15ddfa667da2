"""What the manifest of pretraining costs for ever more photographs: memory, and time of one random access.

    python tests/benchmarks/manifest.py [COUNT …]

Writes manifests of made-up records in shards and reads records in shuffled order, as training does. Memory is the peak
growth of the process' resident set over what it was before; times are of one thread, of reading those of the fastest
tenth; the ratios are to the first row.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lora_core.pretraining.data.order import shuffled
from lora_core.pretraining.data.records import Record, RecordSet, open_manifest

A_SHARD = 10_000
ACCESSES = 50_000
MIB = 2**20


class Growth:
    """Peak growth of the resident set, looked at now and then."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.peak = 0.0

    def look(self) -> None:
        """Takes the present size into account."""
        self.peak = max(self.peak, (self._process.memory_info().rss - self._before) / MIB)


def write(folder: Path, count: int, growth: Growth) -> None:
    """A manifest of `count` records, almost all of them to train on."""
    with open_manifest(folder, 0.999, 0) as manifest:
        for number in range(count):
            shard, place = divmod(number, A_SHARD)
            if not place:
                file = Path(f"/data/shards/{shard:05d}.tar")
                growth.look()
            caption = f"a photograph of number {number} of many, with a caption of usual length"
            name = f"{shard:05d}.tar/{number:09d}"
            manifest.add(Record(name, caption, file, 512 + 100_000 * place, 98_765, 512, 384))


def fastest(work: Callable[[int], object]) -> float:
    """Microseconds a turn in the fastest tenth of `ACCESSES`, as other processes disturb some."""
    times = []
    for first in range(0, ACCESSES, ACCESSES // 10):
        start = time.perf_counter()
        for turn in range(first, first + ACCESSES // 10):
            work(turn)
        times.append(time.perf_counter() - start)
    return 1e7 * min(times) / ACCESSES


def row(folder: Path, count: int) -> tuple[float, ...]:
    """Size on disk, writing and reading of one manifest."""
    writing = Growth()
    start = time.perf_counter()
    write(folder, count, writing)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in folder.iterdir()) / MIB
    reading = Growth()
    records = RecordSet(folder, "train")
    step = max(1, len(records) // ACCESSES)  # positions from the whole epoch
    places = [0] * ACCESSES

    def draw(turn: int) -> None:
        places[turn] = shuffled(turn * step, len(records), "benchmark", 0)

    def access(turn: int) -> None:
        _ = records[places[turn]]
        if turn % 5000 == 4999:
            reading.look()

    order, reads = fastest(draw), fastest(access)
    records.close()
    return size, seconds, writing.peak, order, reads, reading.peak


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measure manifests of many records.")
    parser.add_argument("counts", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    print(f"{ACCESSES:,} records in shuffled order; MiB of memory are the peak growth of the resident set")
    names = ("MiB on disk", "s to write", "MiB writing", "us order", "us access", "MiB reading")
    print(f"{'records':>11}" + "".join(f"{name:>14}" for name in names))
    first = None
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as folder:
            values = row(Path(folder) / "manifest", count)
        first = first or (count, *values)
        print(f"{count:>11,}" + "".join(f"{value:>14.1f}" for value in values), flush=True)
        ratios = (value / max(one, 0.1) for value, one in zip((count, *values), first, strict=True))
        print(f"{f'{next(ratios):.0f}x':>11}" + "".join(f"{f'{ratio:.2f}x':>14}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
