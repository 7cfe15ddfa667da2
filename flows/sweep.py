"""Restore the test photographs with every checkpoint of one round at every setting of the grid."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.parameters import settle_round
from lora_core.experiment import PresetName
from tasks.begin import begin
from tasks.sweep import sweep


@flow(name="sweep", flow_run_name="sweep {workspace} round {number}")
def sweep_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: int = 0,
) -> dict[str, Any]:
    """Sweeps one trained round; cells that are there already are kept.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: the round's own.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
    """
    place, plan = settle_round(number, workspace, experiment, preset, overrides)
    begin(place, plan, number)
    return sweep(place, plan, number)
