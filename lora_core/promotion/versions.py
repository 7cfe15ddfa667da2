"""The champions of a workspace, all that there ever were.

    output/champion/current.json          which version is the champion, and how that came about
    output/champion/0001-1a2b3c4d5e6f/    a version, complete and never changed: the LoRA in both formats,
                                          settings.json, scores.json by photograph, promotion.json (how it came about),
                                          README.md (the model card)

A version is written whole before the pointer names it, and none is ever removed: whatever is killed at whatever moment
leaves the old champion or the new one.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_core.errors import ConfigError, DataError
from lora_core.files import read_json, value_digest, whole_folder, write_json
from lora_core.process import only_one
from lora_core.promotion.pointer import Move, is_version, read_moves, undone, write_moves
from lora_core.promotion.scores import PhotoScores, read_scores
from lora_core.workspace import Workspace

SETTINGS_FILE = "settings.json"
SCORES_FILE = "scores.json"
CARD_FILE = "README.md"
DIFFUSERS_FOLDER = "diffusers"
_PROMOTION_FILE = "promotion.json"
_BEFORE = "a version of Photo Enhancer that kept no history"


@dataclass(frozen=True)
class Version:
    """A champion of some time."""

    folder: Path

    @property
    def name(self) -> str:
        """Its number and the beginning of its digest; the folder's own name where it is from before there were any."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Its number, from 1; ValueError where it is from before there were any."""
        return int(self.name.partition("-")[0])

    @property
    def settings(self) -> dict[str, Any]:
        """What it takes to get the scored pictures again, and the scores; DataError where they are damaged."""
        return _read_settings(self.folder)

    @property
    def lora(self) -> Path:
        """The LoRA: the kohya file, or the diffusers folder where there is none."""
        return self.folder / (self.settings["lora"] or DIFFUSERS_FOLDER)

    @property
    def scores(self) -> PhotoScores | None:
        """Its scores by photograph; None where it is from before they were kept."""
        file = self.folder / SCORES_FILE
        return read_scores(file) if file.exists() else None

    @property
    def promoted(self) -> dict[str, Any]:
        """How it became a version: by what, when (UTC) and with which note."""
        return dict(read_json(self.folder / _PROMOTION_FILE))

    def is_of(self, digest: str) -> bool:
        """Whether it was made of the candidate with this digest."""
        return self.name.endswith(f"-{digest[:12]}")


def present_champion(workspace: Workspace) -> Version | None:
    """The champion; None where there is none yet.

    Raises:
        DataError: the pointer is damaged, or names a version that is gone.
    """
    folder = workspace.champion
    if (folder / SETTINGS_FILE).exists():
        return Version(folder)
    if folder == workspace.champions:
        return None
    raise DataError(f"{folder}, the champion, is not there; name another with: photo-enhancer rollback --to VERSION")


def all_versions(champions: Path) -> list[Version]:
    """Every version that is there, in the order of their numbers."""
    folders = (path for path in champions.glob("*") if is_version(path.name))
    return sorted((Version(path) for path in folders), key=lambda version: version.number)


def was_champion(workspace: Workspace, digest: str) -> bool:
    """Whether the candidate with this digest is the champion, or was it at some time."""
    moves = read_moves(workspace.champions)
    return any(Version(workspace.champions / move.version).is_of(digest) for move in moves)


def carried_out(workspace: Workspace, decision: str) -> Version | None:
    """The version that the decision with this digest made the champion, be it that still or not; None if it did not."""
    found = [move.version for move in read_moves(workspace.champions) if move.decision == decision]
    return Version(workspace.champions / found[0]) if found else None


def install(
    workspace: Workspace,
    digest: str,
    write: Callable[[Path], object],
    by: str,
    note: str,
    decision: str | None = None,
) -> Version:
    """Makes a champion; one that is it already stays as it is, one that was it before comes back.

    Args:
        workspace: the workspace.
        digest: of what is installed.
        write: puts it into a folder.
        by: what promotes it, in words.
        note: what is said about it.
        decision: digest of the decision that this carries out.

    Raises:
        ResourceError: it cannot be written, or another process is at it.
    """
    champions = workspace.champions
    with only_one(champions):
        _clear_leftovers(champions)
        _keep_loose(champions)
        moves = read_moves(champions)
        move = Move("", "promoted", by, _now(), note, decision)
        version = _version_of(champions, digest)
        if version is not None and moves and moves[-1].version == version.name:
            return version
        if version is None:
            version = _write_version(champions, digest, write, move)
        write_moves(champions, (*moves, replace(move, version=version.name)))
        return version


def roll_back(
    workspace: Workspace, to: str | None = None, by: str = "photo-enhancer rollback", note: str = ""
) -> Version:
    """Makes an earlier version the champion again.

    Args:
        workspace: the workspace.
        to: number, name or beginning of the name of a version; None is the champion before the present one.
        by: what does it, in words.
        note: what is said about it.

    Raises:
        ConfigError: there is no such version, or it is the champion.
        DataError: the pointer is damaged and no version is named.
    """
    champions = workspace.champions
    if not champions.is_dir():
        raise ConfigError(f"{champions} does not exist: there is no champion yet; run: photo-enhancer tune")
    with only_one(champions):
        _keep_loose(champions)
        moves = read_moves(champions) if to is None else _readable_moves(champions)
        if (wanted := to or undone(moves)) is None:
            raise ConfigError(f"{champions} holds no champion before the present one")
        version = _find(champions, wanted)
        if moves and version.name == moves[-1].version:
            raise ConfigError(f"{version.name} is the champion already")
        write_moves(champions, (*moves, Move(version.name, "rolled back", by, _now(), note)))
        return version


def _version_of(champions: Path, digest: str) -> Version | None:
    """The version that is there already of what has this digest."""
    return next((version for version in all_versions(champions) if version.is_of(digest)), None)


def _write_version(champions: Path, digest: str, write: Callable[[Path], object], move: Move) -> Version:
    last = max((version.number for version in all_versions(champions)), default=0)
    folder = champions / f"{last + 1:04d}-{digest[:12]}"
    with whole_folder(folder) as whole:
        write(whole)
        write_json(whole / _PROMOTION_FILE, {**asdict(move), "version": folder.name, "digest": digest})
    return Version(folder)


def _clear_leftovers(champions: Path) -> None:
    """What processes left that were killed as they wrote; whoever calls holds the lock."""
    for path in champions.glob(".*.tmp*"):
        (shutil.rmtree(path) if path.is_dir() else path.unlink())


def _keep_loose(champions: Path) -> None:
    """A champion whose files lie directly in the folder, as they did before there were versions, becomes the first."""
    settings_file = champions / SETTINGS_FILE
    if not settings_file.exists():
        return
    settings = _read_settings(champions)
    loose = [champions / name for name in (settings["lora"], DIFFUSERS_FOLDER, CARD_FILE, SETTINGS_FILE) if name]
    if not read_moves(champions):
        move = Move("", "promoted", _BEFORE, _now(), "")

        def write(folder: Path) -> None:
            for path in loose:
                (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name)

        digest = value_digest(settings)
        version = _version_of(champions, digest) or _write_version(champions, digest, write, move)
        write_moves(champions, (replace(move, version=version.name),))
    for path in loose:  # the settings last: as long as they are there, this is done again
        (shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True))


def _read_settings(folder: Path) -> dict[str, Any]:
    """The settings in a folder. They may come from anybody, and what they name is copied, served and deleted.

    Raises:
        DataError: they are missing or damaged, or name another LoRA than a file beside them.
    """
    file = folder / SETTINGS_FILE
    settings = dict(read_json(file))
    lora = settings.get("lora")
    if lora and not (isinstance(lora, str) and Path(lora).name == lora and lora.endswith(".safetensors")):
        raise DataError(f"{file}: lora is {lora!r}, not the name of a .safetensors file in the same folder")
    return settings


def _readable_moves(champions: Path) -> tuple[Move, ...]:
    """A damaged pointer is lost, and with it how the champion came about; the versions are not."""
    try:
        return read_moves(champions)
    except DataError:
        return ()


def _find(champions: Path, wanted: str) -> Version:
    versions = all_versions(champions)
    if wanted.isdecimal() and len(wanted) <= 4:
        found = [version for version in versions if version.number == int(wanted)]
    else:
        found = [version for version in versions if version.name.startswith(wanted)]
    if len(found) != 1:
        names = ", ".join(version.name for version in versions) or "none"
        raise ConfigError(f"{champions} holds no version '{wanted}', or several; there are {names}")
    return found[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
