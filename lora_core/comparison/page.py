"""Writes the page: a folder with one HTML file and the pictures, which needs no network and can be sent to others."""

import base64
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from lora_core.comparison.plan import Plan, find_rival, make_plan, page_data, pictures_of, write_plan
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import whole_folder, write_text
from lora_core.report.data import load_study
from lora_core.report.templating import environment
from lora_core.workspace import Workspace

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Comparison:
    """A page that was written.

    Attributes:
        path: the HTML file; its folder is what is sent to others.
        photos: comparisons on it.
        round: whose winner is judged.
        rival: what a person calls the other side.
    """

    path: Path
    photos: int
    round: int
    rival: str


def write_comparison(workspace: Workspace, experiment: Experiment, against: str, photos: int) -> Comparison:
    """Writes a blind comparison of the best LoRA with something else; asked again, it writes the same page.

    Args:
        workspace: the workspace.
        experiment: whose best round's winner is judged.
        against: base, input, classical, or round:N.
        photos: how many of the test photographs at most, drawn by the experiment's seed.

    Raises:
        ConfigError, DataError: there is nothing to compare with, or its pictures have been cleared away.
        ResourceError: the page cannot be written.
    """
    study = load_study(workspace, experiment)
    rival = find_rival(study, against)
    plan = make_plan(study, rival, photos)
    pictures = pictures_of(study, plan, rival)
    for _, file in pictures:
        if not file.is_file():
            raise DataError(
                f"{file} is not there, it has been cleared away; restore the photographs again: "
                f"photo-enhancer sweep --round {_round_of(plan)}"
            )
    with whole_folder(study.folder.comparisons / plan.page[:16]) as folder:
        (folder / "pictures").mkdir()
        for token, file in pictures:
            shutil.copyfile(file, folder / "pictures" / f"{token}.png")
        write_text(folder / "index.html", render(plan))
    write_plan(study.folder, plan)
    path = study.folder.comparisons / plan.page[:16] / "index.html"
    return Comparison(path, len(plan.pairs), plan.round, rival.name)


def _round_of(plan: Plan) -> str:
    return plan.against.removeprefix("round:") if plan.against.startswith("round:") else str(plan.round)


def render(plan: Plan) -> str:
    """The page as HTML; it names no side in words."""
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # Pictures beside the page alone (`file:` for browsers to which no file is 'self'), and no script but the page's
    # own, whatever a name contains.
    pictures, scripts = "img-src 'self' file: data:", f"script-src 'sha256-{digest}'"
    return (
        environment(_TEMPLATES)
        .get_template("page.html")
        .render(
            plan=plan,
            data=page_data(plan),
            style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            policy=f"default-src 'none'; {pictures}; style-src 'unsafe-inline'; {scripts}",
        )
    )
