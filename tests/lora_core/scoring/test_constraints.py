"""Constraints: what violates them does not win, unless nothing else is there, and then it is said."""

from typing import Any

import pytest

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, ScoringSection, apply_overrides
from lora_core.scoring import rank, score_round
from lora_core.scoring.constraints import add_feasible, constraints_of, unmet
from lora_core.workspace import Workspace
from tests.lora_core.scoring.small_round import CELLS, EXPERIMENT


def row(name: str, psnr: float, perceptual: float, kind: str = "lora", dropped: int | None = None) -> dict[str, Any]:
    gains = {"gain_psnr_y": psnr, "gain_ssim_y": 0.01, "gain_perceptual": perceptual}
    return {"id": name, "kind": kind, "dropped_after": dropped, **gains}


def judged(rows: list[dict[str, Any]], **limits: float) -> tuple[list[bool], list[str]]:
    constraints = constraints_of(ScoringSection(**limits))  # type: ignore[arg-type]
    add_feasible(rows, constraints)
    return [row["feasible"] for row in rows], unmet(rows, constraints)


def test_no_constraint_is_met_by_all() -> None:
    assert constraints_of(ScoringSection()) == []
    assert judged([row("a", -9, -9)]) == ([True], [])


def test_a_limit_is_met_at_the_limit() -> None:
    rows = [row("a", -0.3, 0.5), row("b", -0.31, 0.9)]
    assert judged(rows, min_gain_psnr_y=-0.3) == ([True, False], [])


def test_what_nobody_meets_is_said_with_how_near_the_best_came() -> None:
    rows = [
        row("a", -0.84, 0.5),
        row("b", -1.2, 0.9),
        row("base", 1.0, 0.1, "base"),
        row("dropped", 2.0, 0.9, dropped=3),
    ]
    feasible, words = judged(rows, min_gain_psnr_y=-0.3)
    assert feasible == [False, False, True, True]
    assert words == [
        "No LoRA cell meets scoring.min_gain_psnr_y = -0.3: the highest gain in PSNR-Y over the input is −0.84 dB. "
        "The winner is the best cell all the same."
    ]
    _, words = judged(rows, min_gain_psnr_y=-1, min_gain_perceptual=0.8)
    assert words == [
        "No LoRA cell meets scoring.min_gain_psnr_y = -1 and scoring.min_gain_perceptual = 0.8 together. "
        "The winner is the best cell all the same."
    ]


def test_feasible_rows_rank_first() -> None:
    rows = [{"feasible": False, "composite": 9.0}, {"feasible": True, "composite": -1.0}, {"composite": 0.0}]
    assert sorted(rows, key=rank) == [rows[0], rows[1], rows[2]]


def with_limit(**limits: float) -> Experiment:
    settings = [f"scoring.{key}={value}" for key, value in limits.items()]
    return apply_overrides(EXPERIMENT, settings)


def test_the_winner_of_a_round(workspace: Workspace) -> None:
    free = score_round(workspace, EXPERIMENT, 0)
    assert free["constraints"] == [] and free["winner"]["feasible"]
    gain = free["winner"]["gain_psnr_y"]
    all_the_same = score_round(workspace, with_limit(min_gain_psnr_y=gain + 1), 0)
    assert all_the_same["winner"]["id"] == free["winner"]["id"] and not all_the_same["winner"]["feasible"]
    (words,) = all_the_same["constraints"]
    assert f"{gain:+.2f} dB" in words
    met = score_round(workspace, with_limit(min_gain_psnr_y=gain - 0.01), 0)
    assert met["winner"]["id"] == free["winner"]["id"] and met["constraints"] == []


def test_a_violating_cell_loses_to_one_with_a_lower_composite(workspace: Workspace) -> None:
    """Only sharpness of the limit decides: the best cell is the one cell that does not meet it."""
    from lora_core.scoring import rounds

    def only_the_best_violates(rows: list[dict[str, Any]], constraints: Any) -> None:
        for one in rows:
            one["feasible"] = one["id"] != CELLS[1]["id"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "add_feasible", only_the_best_violates)
        result = score_round(workspace, EXPERIMENT, 0)
    assert result["winner"]["id"] == CELLS[2]["id"]
    assert result["front"] == [CELLS[1]["id"]]


def test_limits_out_of_reach_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_gain_perceptual.*less than or equal to 1"):
        with_limit(min_gain_perceptual=1.5)
