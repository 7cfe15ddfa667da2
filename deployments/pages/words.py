"""Words and addresses on the pages."""

import shlex
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from lora_core.progress import progress_in_words
from lora_core.report.words import counted, signed


def address(kind: str, *parts: str) -> str:
    """The address of a file, card or study on this server, by its path below the root."""
    return f"/{kind}/{quote('/'.join(parts))}"


def command(*words: object) -> str:
    """What to type into a shell."""
    return shlex.join(str(word) for word in words)


def moment(when: datetime) -> str:
    """Day and time on this machine."""
    local = when.astimezone()
    return f"{local.day} {local:%b %Y, %H:%M}"


def rounds_in_words(results: list[dict[str, Any]], pruned: int) -> str:
    """'3 rounds, 1 of them given up early'."""
    if not results:
        return "no round has finished yet"
    given_up = f", {pruned} of them given up early" if pruned else ""
    return f"{counted(len(results), 'round')} finished{given_up}"


def size_of_gain(winner: dict[str, Any]) -> str:
    """'+1.12 dB PSNR-Y'."""
    return f"{signed(winner['gain_psnr_y'], 2)} dB PSNR-Y"


WORDS: dict[str, Callable[..., str]] = {
    "address": address,
    "command": command,
    "moment": moment,
    "rounds_in_words": rounds_in_words,
    "progress_in_words": progress_in_words,
    "size_of_gain": size_of_gain,
}
"""For the templates."""
