"""Which version is the champion: one small file, replaced at once, so that a reader finds the old one or the new one.

A symbolic link would need rights that Windows does not give everybody.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lora_core.errors import DataError
from lora_core.files import read_json, write_json

_FILE = "current.json"
_VERSION = re.compile(r"\d{4,}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Move:
    """How a version became the champion.

    Attributes:
        version: its folder's name.
        how: for the first time or again by a promotion, or by a rollback.
        by: what did it: the rule, the form or the command.
        when: UTC, as ISO 8601 has it.
        note: what was said about it.
        decision: digest of the decision that it carries out; None where a rule or a command did it.
    """

    version: str
    how: Literal["promoted", "rolled back"]
    by: str
    when: str
    note: str
    decision: str | None = None


def is_version(name: str) -> bool:
    """Whether a folder of this name is a version."""
    return _VERSION.fullmatch(name) is not None


def read_moves(champions: Path) -> tuple[Move, ...]:
    """How the champion came about, the present one last; none where there was never one.

    Raises:
        DataError: the pointer is damaged.
    """
    file = champions / _FILE
    if not file.exists():
        return ()
    try:
        moves = tuple(Move(**move) for move in read_json(file)["moves"])
        if moves and all(is_version(move.version) for move in moves):
            return moves
        raise ValueError("it names no version")
    except (DataError, TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"{file} is damaged ({error}); name the champion anew with: photo-enhancer rollback --to VERSION"
        ) from error


def write_moves(champions: Path, moves: tuple[Move, ...]) -> None:
    """Makes the last move's version the champion.

    Raises:
        ResourceError: the file cannot be written.
    """
    write_json(champions / _FILE, {"champion": moves[-1].version, "moves": [asdict(move) for move in moves]})


def champion_folder(champions: Path) -> Path:
    """The present champion's folder, or `champions` itself: empty, or holding one from before there were versions.

    Raises:
        DataError: the pointer is damaged.
    """
    moves = read_moves(champions)
    return champions / moves[-1].version if moves else champions


def undone(moves: tuple[Move, ...]) -> str | None:
    """The version that was the champion before the present one, rollbacks undone; None where there was none."""
    stack: list[str] = []
    for move in moves:
        if move.how == "rolled back" and move.version in stack:
            del stack[stack.index(move.version) :]
        stack.append(move.version)
    return stack[-2] if len(stack) > 1 else None
