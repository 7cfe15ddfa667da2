"""The human score against published numbers."""

import pytest

from lora_core.judging import HumanScore, Judgement, Outcome, human_scores


def _judgement(winner: str, rival: str, outcomes: dict[str, Outcome]) -> Judgement:
    return Judgement("page", "ab" * 8, 0, winner, "base", rival, f"the {rival}", 9, outcomes)


@pytest.mark.parametrize(
    ("wins", "losses", "share", "low", "high", "p"),
    [
        (81, 182, 81 / 263, 0.2553, 0.3662, 4.5e-10),  # Newcombe 1998, table I: 81 of 263, Wilson without correction
        (15, 133, 15 / 148, 0.0624, 0.1605, 1e-23),  # the same, 15 of 148
        (0, 20, 0.0, 0.0, 0.1611, 2 * 0.5**20),  # the same, 0 of 20; the sign test by hand
        (1, 28, 1 / 29, 0.0061, 0.1718, 2 * 30 * 0.5**29),  # the same, 1 of 29; by hand
    ],
)
def test_share_interval_and_sign_test(wins: int, losses: int, share: float, low: float, high: float, p: float) -> None:
    score = HumanScore("base", 1, wins, losses, ties=7)
    assert score.share == pytest.approx(share) and score.interval() == pytest.approx((low, high), abs=5e-5)
    found = score.p()
    assert found is not None and (found == pytest.approx(p) if p > 1e-9 else found < 1e-8)


def test_ties_decide_nothing() -> None:
    score = HumanScore("base", 1, 0, 0, 5)
    assert (score.comparisons, score.share, score.interval(), score.p()) == (5, None, None, None)


def test_judgements_add_up_by_rival_and_only_of_this_winner() -> None:
    judgements = [
        _judgement("w", "base", {"a": "win", "b": "loss"}),
        _judgement("w", "base", {"a": "win", "b": "tie"}),
        _judgement("w", "filter", {"a": "tie"}),
        _judgement("other", "base", {"a": "loss"}),
    ]
    assert human_scores(judgements, "w") == [HumanScore("the base", 2, 2, 1, 1), HumanScore("the filter", 1, 0, 0, 1)]
