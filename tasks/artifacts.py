"""What a round leaves on Prefect's pages: its table and its diagnosis; pictures are in our own report.

Keys are stable, so that the rounds of an experiment are versions of one artifact.
"""

import re
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


@task(name="publish scores", cache_policy=NO_CACHE)
def publish_scores(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Publishes the round's table, best first."""
    import polars as pl

    from lora_core.scoring.tables import SHOWN, best_first

    table = pl.read_parquet(workspace.study(experiment.name).round(number).table)
    rows = best_first(table).select(SHOWN).to_dicts()
    create_table_artifact(rows, key=artifact_key(experiment, "scores"), description=f"Round {number}, best first")


@task(name="publish diagnosis", cache_policy=NO_CACHE)
def publish_diagnosis(workspace: Workspace, experiment: Experiment, result: dict[str, Any]) -> None:
    """Publishes what came of the round, in words, and where the report is."""
    from lora_core.rounds import result_in_words

    lines = [f"# Round {result['round']} of {experiment.name}", f"Tried: {result['reason']}", result_in_words(result)]
    lines += [f"Training: {' '.join(result['reading'])}"] if result["reading"] else []
    lines += [f"- **{finding['code']}**: {finding['says']}" for finding in result["diagnosis"]]
    lines += [f"- {sentence}" for sentence in result["advice"]]
    lines += [f"Pictures and curves: `{workspace.study(experiment.name).report.absolute()}`"]
    create_markdown_artifact("\n\n".join(lines), key=artifact_key(experiment, "diagnosis"))


def artifact_key(experiment: Experiment, what: str) -> str:
    """`<experiment>-<what>` in the characters that Prefect allows: small letters, digits and dashes."""
    return f"{re.sub(r'[^a-z0-9]+', '-', experiment.name.lower()).strip('-')}-{what}"
