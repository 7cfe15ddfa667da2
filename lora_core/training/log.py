"""The training log: JSON objects, a line each, of which a kill may have cut the last one short. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from lora_core.files import write_text


def read_log(log: Path) -> list[dict[str, Any]]:
    """The rows of a log, none where there is no file; what a kill cut short is left out."""
    if not log.exists():
        return []
    rows = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def write_log(log: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a whole log anew."""
    write_text(log, "".join(json.dumps(row) + "\n" for row in rows))
