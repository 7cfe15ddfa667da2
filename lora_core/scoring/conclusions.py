"""What a round's table says: the best of each kind, and the front of fidelity against perception."""

from collections.abc import Iterable
from typing import Any

from lora_core.classical import CLASSICAL
from lora_core.errors import DataError
from lora_core.scoring.points import Row


def conclusions(rows: list[Row]) -> Row:
    """The rows that matter; see `lora_core.scoring.rounds.score_round`.

    Raises:
        DataError: a reference is missing.
    """
    references = {row["name"]: row for row in rows if row["kind"] == "reference"}
    for name in ("input", "autoencoder"):
        if name not in references:
            raise DataError(f"the sweep has no reference '{name}'; run the sweep again: photo-enhancer sweep")
    running = [row for row in rows if row["dropped_after"] is None]
    return {
        "winner": best(row for row in running if row["kind"] == "lora"),
        "input": references["input"],
        "base": best(row for row in running if row["kind"] == "base"),
        "classical": best(row for name, row in references.items() if name in CLASSICAL),
        "autoencoder": references["autoencoder"],
        "front": pareto_front(row for row in running if row["kind"] != "reference"),
    }


def best(rows: Iterable[Row]) -> Row | None:
    """The row that ranks highest, of equals the first; None where there is none."""
    return max(rows, key=rank, default=None)


def rank(row: Row) -> tuple[bool, float]:
    """What rows are compared by: one that meets the constraints before one that does not, then the composite."""
    return row.get("feasible") is not False, row["composite"]


def best_result(results: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The round (its `result.json`) whose winner ranks highest, of equals the earliest; None where none has scores."""
    scored = (result for result in results if result["winner"])  # those that were given up have none
    return max(scored, key=lambda result: (rank(result["winner"]), -result["round"]), default=None)


def pareto_front(rows: Iterable[Row]) -> list[str]:
    """Ids of the rows that no other row beats in PSNR-Y or perceptual distance without losing in the other."""
    points = [(row["psnr_y"], -row["perceptual"], row["id"]) for row in rows]
    return [
        name
        for psnr, closeness, name in points
        if not any(p >= psnr and c >= closeness and (p, c) != (psnr, closeness) for p, c, _ in points)
    ]
