"""What the main job gains on real photographs: trained on one folder, scored on another, against its rivals.

    python tests/benchmarks/restoration.py --train TRAIN --test TEST --work WORK [--rounds 1] [--set key=value ...]

TRAIN and TEST are folders of clean photographs; WORK is a new or an unfinished workspace. Prints a table of means over
the test photographs: the input, the autoencoder alone, classical filters, the base without LoRA, a UNet of the same
size trained from scratch for the LoRA's own time (`regression.py`), and the LoRA's settings; and the time that each
stage took here.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from regression import score_regression, train_regression

from lora_core.experiment import Experiment, load_experiment, with_values
from lora_core.files import read_json
from lora_core.lineage import read_results
from lora_core.preparation import create_workspace, prepare
from lora_core.report import write_report
from lora_core.rounds import begin_round, finish_round
from lora_core.scoring import score_round
from lora_core.sweep import sweep_round
from lora_core.training.launch import train_round
from lora_core.training.state import newest_state
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.stopping import stop_reason
from lora_core.tuning.study import propose, record
from lora_core.workspace import Workspace

T = TypeVar("T")
COLUMNS = ("psnr_y", "ssim_y", "perceptual", "gain_psnr_y", "gain_ssim_y", "gain_perceptual", "composite")


def main() -> None:
    """Runs or continues the loop, then prints what it gained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--preset", default="pocket")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    workspace = Workspace(options.work)
    if not workspace.experiment.exists():
        settings = [*options.set, f"tuning.rounds={options.rounds}"]
        create_workspace(options.work, options.preset, options.train, options.test, assignments=settings)
    experiment = load_experiment(workspace.experiment)
    stages: dict[str, float] = {}
    timed(stages, "prepare", lambda: prepare(workspace, experiment))
    results: list[dict[str, Any]] = []
    while stop_reason(experiment, results, 0) is None:
        results.append(run_round(workspace, experiment, len(results), results, stages))
    write_report(workspace, experiment)
    print_results(workspace, experiment, stages)


def timed(stages: dict[str, float], name: str, work: Callable[[], T]) -> T:
    """Runs one stage and adds its seconds."""
    started = time.monotonic()
    result = work()
    stages[name] = stages.get(name, 0) + time.monotonic() - started
    return result


def run_round(
    workspace: Workspace,
    experiment: Experiment,
    number: int,
    results: list[dict[str, Any]],
    stages: dict[str, float],
) -> dict[str, Any]:
    """One round of the loop, without the orchestrator."""
    findings = [Finding(**one) for one in results[-1]["diagnosis"]] if results else []
    proposal = propose(workspace, experiment, number, findings)
    plan = with_values(experiment, proposal.changes)
    begin_round(workspace, plan, number)
    for verb in (train_round, sweep_round, score_round):
        timed(stages, verb.__name__, partial(verb, workspace, plan, number))
    result = finish_round(workspace, plan, number, proposal.changes, proposal.reason)
    record(workspace, experiment, number, result)
    return result


def regression(
    workspace: Workspace, experiment: Experiment, best: dict[str, Any], degraded: dict[str, Any]
) -> dict[str, Any]:
    """The row of a UNet from scratch, trained for the time that the best round's LoRA took."""
    folder = workspace.study(experiment.name).round(best["round"])
    state = newest_state(folder.states)
    assert state is not None, f"the states of round {best['round']} are gone"
    seconds = read_json(state / "state.json")["seconds"]
    base, images = train_regression(workspace, load_experiment(folder.experiment), seconds)
    scores = score_regression(workspace, experiment, base, degraded)
    name = f"UNet from scratch, {images:,} views in {seconds:.0f} s"
    return {**scores, "name": name, "strength": None}


def print_results(workspace: Workspace, experiment: Experiment, stages: dict[str, float]) -> None:
    """The references, the best base row, the winner and the most perceptual LoRA row of the best round."""
    results = read_results(workspace.study(experiment.name))
    best = max(results, key=lambda result: result["winner"]["composite"])
    folder = workspace.study(experiment.name).round(best["round"])
    table = pl.read_parquet(folder.table)
    lora = table.filter(pl.col("kind") == "lora")
    rival = regression(workspace, experiment, best, table.filter(pl.col("name") == "input").to_dicts()[0])
    rows = [
        *table.filter(pl.col("kind") == "reference").to_dicts(),
        {**best["base"], "name": f"{best['base']['name']} (best setting)"},
        rival,
        {**best["winner"], "name": f"winner: {best['winner']['name']}"},
        {**lora.sort("perceptual").to_dicts()[0], "name": "most perceptual LoRA setting"},
        {**lora.sort("psnr_y").to_dicts()[-1], "name": "most faithful LoRA setting"},
    ]
    count, metric = rows[0]["photos"], rows[0]["perceptual_name"]
    print(
        f"\n{count} photographs, degradation preset {experiment.degradation.preset}, base {experiment.base.model}, ",
        end="",
    )
    print(f"round {best['round']} of {len(results)}; perceptual metric {metric} (lower is better); settings of rows:")
    print(f"{'':44}" + "".join(f"{name.removeprefix('gain_'):>13}" for name in COLUMNS))
    for row in rows:
        settings = ""
        if row["strength"] is not None:
            settings = f" s{row['strength']:g} k{row['start_noise']:g} n{row['steps']} d{row['detail_return']:g}"
        values = "".join(f"{row[name]:13.4f}" if row[name] is not None else f"{'':13}" for name in COLUMNS)
        print(f"{row['name'] + settings:44}{values}")
    print("columns 4-6 are gains over the input: dB, absolute, and relative reduction of the distance")
    print("; ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items()))


if __name__ == "__main__":
    main()
