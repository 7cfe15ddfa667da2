"""Passwords and keys: kept out of settings, which are stored and shown, and masked in messages."""

import os
import re
from typing import Any

MASK = "***"
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s'\"]*:[^/@\s'\"]+(?=@)")
_KEY = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|pnu_[A-Za-z0-9]{20,})\b")
_NAME = re.compile(r"(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|SECRET_KEY|AUTH_STRING)$", re.IGNORECASE)
_SHORTEST = 6
"""A value of fewer characters is a word that may stand anywhere."""


def masked(text: str) -> str:
    """The text without passwords in addresses, known kinds of keys, and the values of secret environment variables."""
    for name, value in os.environ.items():
        if _NAME.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
            text = text.replace(value.partition(":")[2], MASK) if len(value.partition(":")[2]) >= _SHORTEST else text
    return _KEY.sub(MASK, _IN_ADDRESS.sub(MASK, text))


def masked_assignment(assignment: str) -> str:
    """`key=value` without the value, where the key says that it is a secret; else as `masked`."""
    key, equals, _ = assignment.partition("=")
    return f"{key}={MASK}" if equals and _NAME.search(key) else masked(assignment)


def secret_in(values: Any, place: str = "") -> str | None:
    """The dotted key of the first text that holds a password or a key; None where none does.

    Args:
        values: plain data.
        place: the key of the data itself.
    """
    if isinstance(values, str):
        return place if _IN_ADDRESS.search(values) or _KEY.search(values) else None
    if isinstance(values, dict):
        parts = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list | tuple):
        parts = [("", value) for value in values]
    else:
        return None
    names = ((".".join(filter(None, (place, key))), value) for key, value in parts)
    return next((found for name, value in names if (found := secret_in(value, name)) is not None), None)
