"""What a round leaves on Prefect's pages: its table, the winner, the diagnosis, and where the pictures are.

Keys are stable, so that the rounds of an experiment are versions of one artifact. Pictures are in our own report. What
cannot be published is logged and no more: the round's files hold all of it.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from lora_core.experiment import Experiment
from lora_core.markdown import escaped
from lora_core.workspace import Workspace
from tasks.links import address_of, tensorboard_address

logger = logging.getLogger(__name__)


@task(name="publish scores", cache_policy=NO_CACHE)
def publish_scores(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Publishes the round's table, best first."""
    import polars as pl

    from lora_core.scoring.tables import SHOWN, best_first

    with harmless("scores"):
        table = pl.read_parquet(workspace.study(experiment.name).round(number).table)
        rows = best_first(table).select(SHOWN).to_dicts()
        key = artifact_key(workspace, experiment, "scores")
        create_table_artifact(rows, key=key, description=f"Round {number}, best first")


@task(name="publish round", cache_policy=NO_CACHE)
def publish_round(workspace: Workspace, experiment: Experiment, result: dict[str, Any]) -> None:
    """Publishes what came of the round in words, the study's winner so far, and links to report and curves."""
    from lora_core.lineage import read_results

    with harmless("diagnosis"):
        key = artifact_key(workspace, experiment, "diagnosis")
        create_markdown_artifact(_diagnosis(workspace, experiment, result), key=key)
    with harmless("winner"):
        if winner := _winner(experiment, read_results(workspace.study(experiment.name))):
            create_markdown_artifact(winner, key=artifact_key(workspace, experiment, "winner"))
    for what, address, text in (
        ("report", address_of(workspace.study(experiment.name).report), f"Report of {experiment.name}"),
        ("curves", tensorboard_address(), "Training curves in TensorBoard"),
    ):
        if address:
            with harmless(what):
                create_link_artifact(address, text, key=artifact_key(workspace, experiment, what))


def _diagnosis(workspace: Workspace, experiment: Experiment, result: dict[str, Any]) -> str:
    from lora_core.rounds import result_in_words

    lines = [
        f"# Round {result['round']} of {experiment.name}",
        f"Tried: {escaped(result['reason'])}",
        result_in_words(result),
    ]
    lines += [f"Training: {' '.join(result['reading'])}"] if result["reading"] else []
    lines += [f"- **{finding['code']}**: {finding['says']}" for finding in result["diagnosis"]]
    lines += [f"- {sentence}" for sentence in result["advice"]]
    return "\n\n".join([*lines, f"Pictures and curves: {_where(workspace.study(experiment.name).report)}"])


def _winner(experiment: Experiment, results: list[dict[str, Any]]) -> str | None:
    """The best round so far, its settings and its gains as a table; None where no round has scores."""
    from lora_core.report.words import SETTING_NAMES, plain
    from lora_core.rounds import result_in_words
    from lora_core.scoring.conclusions import best_result

    if (best := best_result(results)) is None:
        return None
    settings = {name: best["winner"].get(key) for key, name in SETTING_NAMES.items()}
    rows = [f"| {name} | {plain(value)} |" for name, value in settings.items() if value is not None]
    title = f"# Best of {experiment.name} so far: round {best['round']}"
    return "\n\n".join([title, result_in_words(best), "\n".join(["| setting | value |", "|---|---|", *rows])])


def _where(file: Path) -> str:
    address = address_of(file)
    return f"[{file.name}]({address})" if address else f"`{file.absolute()}`"


def artifact_key(workspace: Workspace, experiment: Experiment, what: str) -> str:
    """`<workspace>-<experiment>-<what>` in the characters that Prefect allows: small letters, digits and dashes."""
    return "-".join([_slug(workspace.root.resolve().name), _slug(experiment.name), what])


def _slug(name: str) -> str:
    """A name of other letters alone becomes a digest of it."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug or hashlib.sha256(name.encode()).hexdigest()[:8]


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Logs what fails in the block: a run must not end because its page cannot be written."""
    try:
        yield
    except Exception as error:  # whatever a server that is away, or another version of it, makes the client raise
        logger.warning("Not published: %s (%s)", what, " ".join(str(error).split())[:200] or type(error).__name__)
