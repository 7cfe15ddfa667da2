"""Conditions that a winner must meet, beside having the highest composite."""

from collections.abc import Sequence
from dataclasses import dataclass

from lora_core.experiment import ScoringSection
from lora_core.scoring.points import Row


@dataclass(frozen=True)
class Constraint:
    """A least gain over the input.

    Attributes:
        key: the setting, for messages.
        gain: the column.
        least: the smallest value that is allowed.
    """

    key: str
    gain: str
    least: float

    def met_by(self, row: Row) -> bool:
        """Whether a row of the table meets it."""
        return bool(row[self.gain] >= self.least)

    @property
    def words(self) -> str:
        """The setting and its value."""
        return f"{self.key} = {self.least:g}"


def constraints_of(section: ScoringSection) -> list[Constraint]:
    """Those that the experiment sets."""
    gains = ("gain_psnr_y", "gain_ssim_y", "gain_perceptual")
    limits = [(f"scoring.min_{gain}", gain, getattr(section, f"min_{gain}")) for gain in gains]
    return [Constraint(key, gain, least) for key, gain, least in limits if least is not None]


def add_feasible(rows: Sequence[Row], constraints: Sequence[Constraint]) -> None:
    """Adds `feasible` to the rows of a table: whether they meet all constraints."""
    for row in rows:
        row["feasible"] = all(constraint.met_by(row) for constraint in constraints)


def unmet(rows: Sequence[Row], constraints: Sequence[Constraint]) -> list[str]:
    """What no LoRA cell achieved, in words; empty where one meets all constraints, or where there is no cell.

    Args:
        rows: a table's, with `feasible`.
    """
    cells = [row for row in rows if row["kind"] == "lora" and row["dropped_after"] is None]
    if not cells or any(row["feasible"] for row in cells):
        return []
    alone = [
        f"No LoRA cell meets {one.words}: the highest {_called(one.gain)} over the input is "
        f"{_number(one.gain, max(row[one.gain] for row in cells))}. The winner is the best cell all the same."
        for one in constraints
        if not any(one.met_by(row) for row in cells)
    ]
    if alone:
        return alone
    together = " and ".join(one.words for one in constraints)
    return [f"No LoRA cell meets {together} together. The winner is the best cell all the same."]


def _called(gain: str) -> str:
    return {"gain_psnr_y": "gain in PSNR-Y", "gain_ssim_y": "gain in SSIM-Y"}.get(gain, "perceptual gain")


def _number(gain: str, value: float) -> str:
    form = {"gain_psnr_y": "{:+.2f} dB", "gain_ssim_y": "{:+.4f}"}.get(gain, "{:+.1%}")
    return form.format(value).replace("-", "−")
