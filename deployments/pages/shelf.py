"""What lies below a folder: workspaces with their experiments and champions, and base trainings. Reads only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_core.errors import UserError
from lora_core.files import read_json
from lora_core.progress import Progress, read_progress
from lora_core.promotion.versions import CARD_FILE, SETTINGS_FILE, present_champion
from lora_core.scoring.conclusions import best_result
from lora_core.workspace import RoundFolder, StudyFolder, Workspace

DEPTH = 6
"""Folders below the root in which a workspace may lie."""
_NOT_ENTERED = {"cache", "dataset", "log", "model", "node_modules", "output", "__pycache__"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is nobody's business: `.git`, `.lock`, half-written files."""
    return name.startswith(".")


def is_workspace(folder: Path) -> bool:
    """Whether the folder holds an experiment."""
    return (folder / "experiment.yaml").is_file()


def is_training(folder: Path) -> bool:
    """Whether the folder is that of a base training."""
    return (folder / "recipe.yaml").is_file()


@dataclass(frozen=True)
class Page:
    """A page that can be opened: its path below the root, and when it was written."""

    path: str
    written: datetime


@dataclass(frozen=True)
class StudyCard:
    """One experiment, for the home page.

    Attributes:
        path: of its folder below the root.
        results: of the finished rounds.
        best: the result whose winner ranks highest; None where no round has scores.
        begun: number of a round without a result, with what is known of its progress.
        problem: why the study cannot be read.
    """

    name: str
    path: str
    results: list[dict[str, Any]]
    best: dict[str, Any] | None
    begun: tuple[int, Progress | None] | None
    report: Page | None
    comparisons: list[Page]
    has_journal: bool
    problem: str | None = None

    @property
    def pruned(self) -> int:
        """Rounds that were given up early."""
        return sum(bool(result["pruned"]) for result in self.results)


@dataclass(frozen=True)
class ChampionCard:
    """The champion in words and files; `settings` is its settings.json."""

    path: str
    settings: dict[str, Any]
    files: list[str]


@dataclass(frozen=True)
class WorkspaceCard:
    """A workspace, for the home page; `path` is empty where it is the root itself."""

    name: str
    path: str
    studies: list[StudyCard]
    champion: ChampionCard | None


@dataclass(frozen=True)
class TrainingCard:
    """A base training, for the home page."""

    name: str
    report: Page | None


def find_folders(root: Path) -> Iterator[Path]:
    """The folders that may be workspaces or base trainings, in name order; links are not followed."""
    for folder, inside, _ in os.walk(root):
        place = Path(folder)
        inside[:] = sorted(name for name in inside if not is_hidden(name) and name not in _NOT_ENTERED)
        if len(place.relative_to(root).parts) >= DEPTH:
            inside.clear()
        yield place


def read_shelf(root: Path) -> tuple[list[WorkspaceCard], list[TrainingCard]]:
    """Every workspace and every base training below `root`."""
    folders = list(find_folders(root))
    trainings = [folder for folder in folders if is_training(folder)]
    return (
        [_workspace(root, Workspace(folder)) for folder in folders if is_workspace(folder)],
        [TrainingCard(_name(root, folder), _page(root, folder / "report.html")) for folder in trainings],
    )


def _name(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else root.name


def _workspace(root: Path, workspace: Workspace) -> WorkspaceCard:
    champion = _champion(root, workspace)
    folders = (path for path in sorted(workspace.output.glob("*")) if path.is_dir() and not is_hidden(path.name))
    studies = [_study(root, StudyFolder(path)) for path in folders if _is_study(path)]
    path = "" if workspace.root == root else workspace.root.relative_to(root).as_posix()
    return WorkspaceCard(_name(root, workspace.root), path, studies, champion)


def _is_study(folder: Path) -> bool:
    study = StudyFolder(folder)
    return study.study_log.exists() or any(folder.glob("round-*/"))


def _study(root: Path, study: StudyFolder) -> StudyCard:
    problem, results, best = None, [], None
    try:
        results = [read_json(folder.result) for folder in study.rounds()]
        best = best_result(results)
    except (UserError, OSError, LookupError, TypeError) as error:  # a damaged file must not take the page down
        problem, results = str(error) or type(error).__name__, []
    pages = (_page(root, folder / "index.html") for folder in sorted(study.comparisons.glob("*/")))
    return StudyCard(
        name=study.root.name,
        path=study.root.relative_to(root).as_posix(),
        results=results,
        best=best,
        begun=_begun(study),
        report=_page(root, study.report),
        comparisons=[page for page in pages if page],
        has_journal=study.study_log.is_file(),
        problem=problem,
    )


def _begun(study: StudyFolder) -> tuple[int, Progress | None] | None:
    """The last round without a result, which is running or waits to go on."""
    folders = [RoundFolder(path) for path in sorted(study.root.glob("round-*/"))]
    open_ones = [folder for folder in folders if not folder.result.exists()]
    if not open_ones:
        return None
    last = open_ones[-1]
    number = last.root.name.removeprefix("round-")
    return (int(number), read_progress(last.root)) if number.isdecimal() else None


def _champion(root: Path, workspace: Workspace) -> ChampionCard | None:
    try:
        if (champion := present_champion(workspace)) is None:
            return None
        folder, settings = champion.folder, champion.settings
        files = [CARD_FILE, SETTINGS_FILE, *([settings["lora"]] if settings["lora"] else [])]
        path = folder.relative_to(root).as_posix()
    except (UserError, LookupError, TypeError, ValueError):
        return None  # none that this version knows
    return ChampionCard(path, settings, [name for name in files if (folder / name).is_file()])


def _page(root: Path, file: Path) -> Page | None:
    try:
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None
    return Page(file.relative_to(root).as_posix(), written)
