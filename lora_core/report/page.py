"""Puts the page together: one HTML file that holds its styles, its script, its charts and its photographs."""

import base64
import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lora_core.experiment import Experiment
from lora_core.files import write_text
from lora_core.report import versus
from lora_core.report.certainty import draw_certainty
from lora_core.report.champion import tell_champion
from lora_core.report.data import RoundData, StudyData, changed_keys, load_rounds, load_study
from lora_core.report.drawings import draw_curves, draw_front, draw_rounds
from lora_core.report.importance import tell_importance
from lora_core.report.maps import draw_maps
from lora_core.report.pictures import LIMIT, SIDE, panels
from lora_core.report.race import tell_race
from lora_core.report.restores import tell_restores
from lora_core.report.strips import strips
from lora_core.report.summary import summarise
from lora_core.report.tables import full_table, round_lines, short_table
from lora_core.report.templating import environment
from lora_core.report.words import counted
from lora_core.scoring import POINT
from lora_core.settings import to_yaml
from lora_core.workspace import Workspace

_TEMPLATES = Path(__file__).with_name("templates")
_PACKAGES = ("torch", "diffusers", "transformers", "peft", "optuna", "numpy", "opencv-python-headless", "scikit-image")


def write_report(workspace: Workspace, experiment: Experiment) -> Path:
    """Writes the report of an experiment from its finished rounds.

    Where every round was stopped early there are no scores, and the page says why and with which settings.

    Returns:
        The page's path, `StudyFolder.report`.

    Raises:
        DataError: no round has finished, or a file of a finished round cannot be read.
        ConfigError: the experiment stored with a round cannot be read.
        ResourceError: the page cannot be written.
    """
    folder = workspace.study(experiment.name)
    rounds = load_rounds(folder)
    unscored = bool(rounds) and all(one.pruned for one in rounds)
    text = _render_unscored(experiment, rounds) if unscored else render(load_study(workspace, experiment))
    write_text(folder.report, text)
    return folder.report


def render(study: StudyData) -> str:
    """The page as HTML; equal studies give equal text."""
    front, outside = draw_front(study)
    return _fill(
        "page.html",
        study=study,
        summary=summarise(study),
        panels=panels(study),
        panel_limit=LIMIT,
        panel_side=SIDE,
        failures=versus.failures(study),
        contests=versus.contests(study),
        contest_side=versus.SIDE,
        round_lines=round_lines(study.finished, study.best, study.judgements),
        rounds_drawing=draw_rounds(study),
        importance=tell_importance(study),
        short_table=short_table(study),
        full_table=full_table(study),
        certainty=draw_certainty(study),
        champion=tell_champion(study),
        race=tell_race(study),
        grid=draw_maps(study),
        front=front,
        outside=outside,
        restores=tell_restores(study),
        curves=draw_curves(study),
        reading=study.best.training.get("reading", []),
        strips=strips(study),
        facts=_facts(study),
        point=POINT,
        yaml_given=to_yaml(study.experiment),
        yaml_best=to_yaml(study.best.experiment),
    )


def _render_unscored(experiment: Experiment, rounds: list[RoundData]) -> str:
    return _fill(
        "unscored.html",
        experiment=experiment,
        keys=changed_keys(rounds),
        round_lines=round_lines(rounds, None),
        yaml_given=to_yaml(experiment),
    )


def _fill(template: str, **values: Any) -> str:
    """A template with the page's words, styles and script."""
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    return (
        environment(_TEMPLATES)
        .get_template(template)
        .render(
            style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            policy=_content_policy(script),
            **values,
        )
    )


def _content_policy(script: str) -> str:
    """Nothing may be loaded, and no script runs but the page's own, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _facts(study: StudyData) -> list[tuple[str, str]]:
    best = study.best
    result: dict[str, Any] = best.result
    facts = [
        ("Experiment digest", result["digest"]),
        ("Base model digest", result["base_digest"]),
        ("Photographs digest", result["dataset_digest"]),
    ]
    checkpoint = best.checkpoint()
    if checkpoint:
        facts.append(("LoRA digest", checkpoint["digest"]))
    training = best.training
    facts.append(
        (
            "Training of the best round",
            f"{counted(training['photos'], 'photograph')}, {training['images']:,} images seen in "
            f"{counted(training['epochs'], 'epoch')} ({training['stopped']})"
            + (f", in batches of {training['batch']} after memory ran out" if training.get("shrunk") else ""),
        )
    )
    facts.append(("Software that wrote this page", ", ".join([f"Python {platform.python_version()}", *_versions()])))
    return facts


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found
