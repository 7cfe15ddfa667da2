"""Compare the swept pictures of one round with their originals."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.parameters import settle_round
from lora_core.experiment import PresetName
from tasks.artifacts import publish_scores
from tasks.begin import begin
from tasks.score import score


@flow(name="score", flow_run_name="score {workspace} round {number}")
def score_flow(
    workspace: Path,
    experiment: Path | None = None,
    preset: PresetName | None = None,
    overrides: tuple[str, ...] = (),
    number: int = 0,
) -> dict[str, Any]:
    """Scores one swept round and publishes its table.

    Args:
        workspace: The workspace folder.
        experiment: Experiment file; empty: the round's own.
        preset: A shipped experiment instead of a file.
        overrides: Changes for this run alone, each as section.key=value.
        number: The round, from 0.
    """
    place, plan = settle_round(number, workspace, experiment, preset, overrides)
    begin(place, plan, number)
    scores = score(place, plan, number)
    publish_scores(place, plan, number)
    return scores
