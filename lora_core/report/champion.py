"""Who is the champion, who was it before, and what was decided about this study's candidates."""

from dataclasses import dataclass
from typing import Any

from lora_core.errors import DataError
from lora_core.promotion.decisions import Decision, read_decisions
from lora_core.promotion.pointer import Move, read_moves
from lora_core.promotion.versions import Version, present_champion
from lora_core.report.data import StudyData
from lora_core.report.words import signed

_NO_SETTINGS = "its files are gone"


@dataclass(frozen=True)
class Reign:
    """A champion and how it came to be one; the words of a table's row."""

    version: str
    lora: str
    points: str
    came: str
    when: str
    note: str
    present: bool


@dataclass(frozen=True)
class Ruling:
    """A decision about a candidate."""

    candidate: str
    choice: str
    by: str
    when: str
    contest: str
    note: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class ChampionStory:
    """The part of the page about the champion.

    Attributes:
        sentence: who it is.
        file: the LoRA, below the workspace; None where there is no champion.
        reigns: all champions of the workspace, the present one first.
        rulings: what was decided about this study's candidates, the latest first.
    """

    sentence: str
    file: str | None
    reigns: list[Reign]
    rulings: list[Ruling]


def tell_champion(study: StudyData) -> ChampionStory | None:
    """The champion and the decisions; None where there was neither yet."""
    rulings = [_ruling(decision) for decision in reversed(read_decisions(study.folder))]
    try:
        moves, present = read_moves(study.workspace.champions), present_champion(study.workspace)
    except DataError as error:  # what ails the champion must not keep anybody from the study's own numbers
        return ChampionStory(f"{error}.", None, [], rulings)
    if present is None:
        return ChampionStory("There is no champion yet.", None, [], rulings) if rulings else None
    file = present.lora.relative_to(study.workspace.root).as_posix()
    reigns = [_reign(study, move, at == len(moves) - 1) for at, move in enumerate(moves)]
    return ChampionStory(_sentence(study, present), file, reigns[::-1], rulings)


def _sentence(study: StudyData, present: Version) -> str:
    settings = present.settings
    whose = "of this study" if settings["name"] == study.experiment.name else f"of {settings['name']}"
    return (
        f"The champion is the LoRA of round {settings['round']} {whose}, epoch {settings['epoch']}, with "
        f"{signed(settings['composite'], 2)} points on its {settings['photos']} test photographs."
    )


def _reign(study: StudyData, move: Move, present: bool) -> Reign:
    lora, points = _NO_SETTINGS, signed(None, 2)
    try:
        settings: dict[str, Any] = Version(study.workspace.champions / move.version).settings
        lora, points = f"{settings['name']}, round {settings['round']}", signed(settings["composite"], 2)
    except DataError:
        pass  # somebody made room
    return Reign(move.version, lora, points, f"{move.how} by {move.by}", _moment(move.when), move.note, present)


def _ruling(one: Decision) -> Ruling:
    candidate = f"round {one.round} of {one.study}"
    return Ruling(candidate, one.chosen, one.by, _moment(one.when), one.contest, one.note, one.overrides)


def _moment(when: str) -> str:
    """`2026-11-21 16:40 UTC` of an ISO 8601 time."""
    return when[:16].replace("T", " ") + " UTC"
