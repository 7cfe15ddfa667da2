"""Scores that are kept on the disk by the bytes of what was scored."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_core.errors import DataError
from lora_core.files import read_json, value_digest, write_json

Digests = tuple[str, str]
"""sha256 of the restored picture and of its original."""
Scores = dict[str, float]

_FORMAT = 2
_log = logging.getLogger(__name__)


class KeptScores:
    """Scores of one cell, by photograph, in one JSON file.

    A score counts as long as both pictures have the bytes that were scored and the conventions are the same (they are
    part of the file's name). A file that is damaged is named in the log and counts as empty: everything in it can be
    computed again.
    """

    def __init__(self, folder: Path, cell: str, conventions: Mapping[str, str], suffix: str = "") -> None:
        self.path = folder / f"{cell}{suffix}-{value_digest([_FORMAT, dict(conventions)])[:16]}.json"
        self._conventions = dict(conventions)

    def read(self, pictures: Mapping[str, Digests]) -> dict[str, Scores]:
        """The scores that fit these pictures, by photograph."""
        kept = self._rows()
        fits = {name: kept[name] for name, digests in pictures.items() if name in kept}
        return {name: row["scores"] for name, row in fits.items() if tuple(row["pictures"]) == pictures[name]}

    def add(self, pictures: Mapping[str, Digests], scores: Mapping[str, Scores]) -> None:
        """Adds scores to the file; those of other photographs stay."""
        new = {name: {"pictures": list(pictures[name]), "scores": scores[name]} for name in scores}
        rows = dict(sorted({**self._rows(), **new}.items()))
        write_json(self.path, {"conventions": self._conventions, "rows": rows, "digest": value_digest(rows)})

    def _rows(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            content = read_json(self.path)
        except DataError as error:
            return self._damaged(str(error))
        if not isinstance(content, dict) or value_digest(content.get("rows")) != content.get("digest"):
            return self._damaged("its contents do not fit its digest")
        rows = content["rows"]
        if not all(math.isfinite(value) for row in rows.values() for value in row["scores"].values()):
            return self._damaged("it holds a score that is not finite")
        return dict(rows)

    def _damaged(self, reason: str) -> dict[str, Any]:
        _log.warning("the kept scores %s are damaged and are computed again: %s", self.path, reason)
        return {}
