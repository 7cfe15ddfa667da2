"""How many rounds the tuning loop needs on a recorded surface of real trainings, against chance.

    python tests/benchmarks/tuning.py [--surface tests/benchmarks/surface.parquet] [--seeds 20] [--strategies random gp]

The real `propose` and `record` run on a journal of their own; instead of a training, the recorded point nearest to the
proposal is looked up (each dimension by itself, numbers by their logarithm), so that a round costs nothing. A point
whose loss is no number is recorded as pruned, as the loop does. There is no diagnosis, and so no advice. The gain of a
round is its composite minus that of the bare base; a search has arrived when its best gain is 95 % of the best recorded
one. Round 0 is the experiment as written, for all strategies alike; the first column also counts it.

The last lines replay the pruning: rounds of 8 epochs drawn at random, with checkpoints after 1, 2, 4 and 8.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from lora_core.experiment import Experiment, load_preset, parse_experiment
from lora_core.tuning.pruning import Pruner
from lora_core.tuning.study import propose, record
from lora_core.workspace import Workspace

SHARE = 0.95
"""Of the best known gain."""

MOST = 400
"""Rounds after which a search is given up; counted as so many."""

KEYS = ("training.learning_rate", "adapter.rank", "adapter.layers", "training.epochs")


@dataclass(frozen=True)
class Surface:
    """The recorded points, (numbers of the dimensions) -> composite; NaN: the training broke down."""

    axes: dict[str, list[Any]]
    points: dict[tuple[Any, ...], float]
    losses: dict[tuple[Any, ...], float]
    base: float

    @classmethod
    def read(cls, file: Path) -> "Surface":
        """The table of `surface.py`."""
        table = pl.read_parquet(file).rename({"epochs": "training.epochs"})
        base = table.filter(pl.col("training.epochs") == 0)["composite"][0]
        rows = table.filter(pl.col("training.epochs") > 0).to_dicts()
        axes = {key: sorted({row[key] for row in rows}) for key in KEYS}
        points = {
            tuple(row[key] for key in KEYS): row["composite"] if math.isfinite(row["loss"]) else math.nan
            for row in rows
        }
        losses = {tuple(row[key] for key in KEYS): row["loss"] for row in rows}
        assert len(points) == math.prod(map(len, axes.values())), "the surface is no whole grid"
        return cls(axes, points, losses, base)

    def gain(self, changes: dict[str, Any]) -> float:
        """The gain over the bare base at the recorded point nearest to these values."""
        return self.points[tuple(self._snapped(key, changes[key]) for key in KEYS)] - self.base

    def _snapped(self, key: str, value: Any) -> Any:
        if isinstance(value, str):
            return value
        return min(self.axes[key], key=lambda known: abs(math.log(known / value)))

    @property
    def best(self) -> float:
        """The best gain."""
        return float(np.nanmax(list(self.points.values()))) - self.base

    def trainings(self) -> list[tuple[list[tuple[int, float]], float]]:
        """Of each training the curve of its loss, (epochs, share of the base's), and its best gain."""
        *others, epochs = self.axes.values()
        found = []
        for values in product(*others):
            curve = [(epoch, self.losses[(*values, epoch)]) for epoch in epochs]
            gain = np.nanmax([self.points[(*values, epoch)] - self.base for epoch in epochs])
            found.append((curve, float(gain)))
        return found

    def dimensions(self) -> list[dict[str, Any]]:
        """The search space: numbers between the outermost recorded values, on logarithmic scales."""
        return [
            {"key": key, "choices": values} if isinstance(values[0], str)
            else {"key": key, "low": values[0], "high": values[-1], "log": True}
            for key, values in self.axes.items()
        ]  # fmt: skip


def experiment_of(surface: Surface, strategy: str, seed: int) -> Experiment:
    """The shipped experiment with the surface's dimensions."""
    plain = load_preset("pocket").model_dump(mode="json")
    plain["seed"] = seed
    plain["tuning"] |= {"dimensions": surface.dimensions(), "strategy": strategy, "rounds": MOST}
    return parse_experiment(plain, "benchmark")


def gains(surface: Surface, strategy: str, seed: int) -> list[float]:
    """The gain of each round until the search has arrived; NaN for a pruned one."""
    experiment, found = experiment_of(surface, strategy, seed), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        while len(found) < MOST and not (found and np.nanmax(found) >= SHARE * surface.best):
            number = len(found)
            gain = surface.gain(propose(workspace, experiment, number, []).changes)
            pruned = math.isnan(gain)
            result = {
                "digest": str(number),
                "pruned": pruned,
                "pruned_because": "The loss is no number any more." if pruned else None,
                "winner": None if pruned else {"id": str(number), "composite": gain + surface.base},
                "perceptual": {"name": "GMSD"},
            }
            record(workspace, experiment, number, result)
            found.append(gain)
    return found


def print_pruning(surface: Surface, rounds: int, draws: int) -> None:
    """What pruning saves in short random searches, and what it costs them."""
    trainings, saved, pruned, missed, lost = surface.trainings(), 0.0, 0, list[float](), 0
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(trainings))[:rounds]
        rivals: list[list[tuple[int, float]]] = []
        kept, given_up = list[float](), list[float]()
        for place in order:
            curve, gain = trainings[place]
            ends = end_of(curve, Pruner(tuple(rivals)))
            (kept if ends is None else given_up).append(gain)
            saved += 0 if ends is None else 1 - ends / curve[-1][0]
            if ends is None:
                rivals.append(curve)
        pruned, missed = pruned + len(given_up), [*missed, *given_up]
        lost += max(given_up, default=-np.inf) > max(kept, default=-np.inf)
    share = saved / rounds / draws
    print(
        f"pruning, {draws} searches of {rounds} rounds: {pruned / rounds / draws:.0%} of the rounds given up, ", end=""
    )
    print(f"{share:.0%} of all training saved")
    print(f"  best gain of a given-up round {max(missed):+.3f}; ", end="")
    print(f"searches that lost their best round to it: {lost}")


def end_of(curve: list[tuple[int, float]], pruner: Pruner) -> int | None:
    """The epochs after which a training is given up; None where it runs to its end."""
    rows = [{"images": 0, "loss": 1.0}, *({"images": epoch, "loss": share} for epoch, share in curve)]
    for place in range(1, len(curve)):
        if math.isnan(curve[place - 1][1]) or pruner(rows[: place + 1], [epoch for epoch, _ in curve[:place]]):
            return curve[place - 1][0]
    return None


def arrived(found: Sequence[float], goal: float) -> int:
    """How many rounds it took to reach a gain; one more than there were where it was not reached."""
    return next((count for count, gain in enumerate(found, start=1) if gain >= goal), len(found) + 1)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surface", type=Path, default=Path(__file__).with_name("surface.parquet"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", default=["random", "tpe", "gp"])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    surface = Surface.read(options.surface)
    good = sum(value - surface.base >= SHARE * surface.best for value in surface.points.values())
    first = surface.gain(dict(zip(KEYS, (1e-3, 32, "all", 2), strict=True)))
    print(
        f"{len(surface.points)} recorded points; bare base {surface.base:+.3f} points, best gain over it "
        f"{surface.best:+.3f}, {good} points within {1 - SHARE:.0%} of that; as written {first:+.3f}"
    )
    print("strategy    rounds to 95 %     quartiles   worst   to 80 %   to random   s a proposal")
    medians: dict[str, float] = {}
    for strategy in options.strategies:
        started = time.monotonic()
        with ProcessPoolExecutor(options.processes) as pool:
            runs = list(pool.map(partial(gains, surface, strategy), range(options.seeds)))
        seconds = (time.monotonic() - started) * options.processes / sum(map(len, runs))
        counts = [arrived(run, SHARE * surface.best) for run in runs]
        medians[strategy] = median(counts)
        low, high = np.percentile(counts, [25, 75])
        early = median(arrived(run, 0.8 * surface.best) for run in runs)
        ratio = f"{medians[strategy] / medians['random']:.2f}x" if "random" in medians else ""
        quartiles = f"{low:.0f} to {high:.0f}"
        row = f"{strategy:10}{medians[strategy]:16g}{quartiles:>14}{max(counts):8}{early:10g}{ratio:>12}"
        print(f"{row}{seconds:15.2f}", flush=True)
    print("goal: gp at most 0.50x of random, median of 20 seeds")
    print_pruning(surface, rounds=12, draws=100)


if __name__ == "__main__":
    main()
