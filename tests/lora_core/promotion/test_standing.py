"""Candidate against champion: who wins, what cannot be compared, what the rules do, what the study remembers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from lora_core.comparison.plan import read_plans
from lora_core.errors import ConfigError, DataError
from lora_core.experiment import apply_overrides
from lora_core.files import read_json, write_json, write_text
from lora_core.judging import read_judgements
from lora_core.promotion import Promotion, standing
from lora_core.promotion.again import settings_of_next_try
from lora_core.promotion.candidate import find_candidate
from lora_core.promotion.carrying import approve, hand_on
from lora_core.promotion.contest import contest_in_words, hold_contest
from lora_core.promotion.decisions import read_decisions, remarks, remember
from lora_core.promotion.scores import PhotoScores
from lora_core.promotion.standing import require_standing, rule
from lora_core.promotion.versions import all_versions, present_champion, roll_back
from lora_core.report import write_report
from lora_core.tuning.study import propose
from lora_core.workspace import Workspace
from tests.promotion_study import make_candidate
from tests.report_study import Study


def scores(points: list[float], **other: Any) -> PhotoScores:
    photos = {f"p{at:02d}": {"composite": value, "psnr_y": 20.0 + value} for at, value in enumerate(points)}
    start = {photo: {"psnr_y": 20.0} for photo in photos}
    judged_by = {"psnr_weight": 1.0, "perceptual": "GMSD", "test_size": 512}
    return replace(PhotoScores("t" * 64, "b" * 64, judged_by, True, photos, start), **other)


DRAWN = np.random.default_rng(3).normal(2, 1, 12).tolist()


def test_a_gain_on_nearly_all_photographs_is_significant_and_one_by_a_single_photograph_is_not() -> None:
    champion = scores(DRAWN)
    better = hold_contest(scores([value + 0.1 for value in DRAWN]), champion, "the champion", 0)
    assert better.won and better.p == pytest.approx(2**-12) and better.difference == pytest.approx(0.1)
    assert better.better == 12 and better.low == pytest.approx(0.1) == better.high
    one = hold_contest(scores([DRAWN[0] + 20, *(value - 0.1 for value in DRAWN[1:])]), champion, "the champion", 0)
    assert one.difference > 1 and not one.won and "not significant" in contest_in_words(one)
    worse = hold_contest(scores([value - 0.1 for value in DRAWN]), champion, "the champion", 0)
    assert worse.p == 1 and not worse.won and "behind the champion" in contest_in_words(worse)
    same = hold_contest(champion, champion, "the champion", 0)
    assert (same.p, same.difference, same.won) == (1, 0, False) and "level with" in contest_in_words(same)


def test_without_a_champion_the_input_is_the_rival_and_four_photographs_show_nothing() -> None:
    assert hold_contest(scores(DRAWN), None, "the degraded input", 0).won
    few = hold_contest(scores([1.0, 1.0, 1.0, 1.0]), None, "the degraded input", 0)
    assert not few.won and "5 are the least" in contest_in_words(few)


def test_a_candidate_that_breaks_the_constraints_does_not_win_against_one_that_meets_them() -> None:
    better = [value + 1 for value in DRAWN]
    assert not hold_contest(scores(better, feasible=False), scores(DRAWN), "the champion", 0).won
    assert hold_contest(scores(better, feasible=False), scores(DRAWN, feasible=False), "the champion", 0).won


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, test_digest="u" * 64), "other test photographs"),
        (lambda one: replace(one, photos={**one.photos, "more": {"composite": 1.0}}), "other test photographs"),
        (
            lambda one: replace(one, judged_by={**one.judged_by, "psnr_weight": 2.0}),
            "scoring.psnr_weight was 2.0, now it is 1.0",
        ),
        (
            lambda one: replace(one, judged_by={**one.judged_by, "perceptual": "LPIPS"}),
            "scoring.perceptual was LPIPS, now it is GMSD",
        ),
        (
            lambda one: replace(one, judged_by={**one.judged_by, "test_size": 256}),
            "data.test_size was 256, now it is 512",
        ),
        (lambda one: replace(one, input={**one.input, "p03": {"psnr_y": 20.1}}), "psnr_y was measured in another way"),
        (lambda one: replace(one, input={**one.input, "p03": {"psnr": 20.0}}), "was scored without psnr_y"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_by_name(
    change: Callable[[PhotoScores], PhotoScores], message: str
) -> None:
    contest = hold_contest(scores([9.0] * 12), change(scores(DRAWN)), "the champion", 0)
    assert not contest.won and message in contest_in_words(contest)


def test_another_base_or_machine_is_no_reason_to_refuse() -> None:
    champion = scores(DRAWN, base_digest="c" * 64)
    champion = replace(champion, input={photo: {"psnr_y": 20.0 + 1e-6} for photo in champion.photos})
    assert hold_contest(scores([9.0] * 12), champion, "the champion", 0).won


@pytest.fixture
def weak(tmp_path: Path, photos: Path) -> Study:
    """Champion of its workspace."""
    study = make_candidate(tmp_path / "work", photos, "weak", quality=0.6)
    assert rule(study.workspace, study.experiment, "significant").words.count("is the champion now") == 1
    return study


def challenger(weak: Study, photos: Path, quality: float = 1.0) -> Study:
    return make_candidate(weak.workspace.root, photos, "challenger", quality=quality)


def test_the_rule_promotes_what_wins_once_and_remembers_why(weak: Study, photos: Path) -> None:
    strong = challenger(weak, photos)
    for words in ("is the champion now", "Round 0 of challenger is the champion:"):
        ruling = rule(strong.workspace, strong.experiment, "significant")
        assert words in ruling.words and ruling.undecided is None
    assert [version.settings["name"] for version in all_versions(strong.workspace.champions)] == ["weak", "challenger"]
    assert strong.workspace.champion.name.startswith("0002-")
    (decision,) = read_decisions(strong.workspace.study("challenger"))
    assert (decision.choice, decision.by) == ("approve", "the rule 'significant'")
    assert "6 of 6 photographs" in decision.contest
    kept = read_json(strong.workspace.champion / "scores.json")
    assert kept["test_digest"] == "7e" * 32 and kept["base_digest"] == "b7" * 32 and len(kept["photos"]) == 6


def test_the_rule_keeps_a_champion_that_is_not_beaten_and_best_does_not_ask(weak: Study, photos: Path) -> None:
    worse = challenger(weak, photos, 0.4)
    for _ in range(2):
        ruling = rule(worse.workspace, worse.experiment, "significant")
        assert "was not promoted; 0001-" in ruling.words and "not significant" in ruling.words
        assert ruling.undecided is not None
    (decision,) = read_decisions(worse.workspace.study("challenger"))
    assert decision.choice == "reject" and worse.workspace.champion.name.startswith("0001-")
    ruling = rule(worse.workspace, worse.experiment, "ask")
    assert "waits for a decision" in ruling.words and ruling.undecided is not None
    assert ruling.undecided.digest == require_standing(worse.workspace, worse.experiment).digest
    assert worse.workspace.champion.name.startswith("0001-")
    assert "is the champion now" in rule(worse.workspace, worse.experiment, "best").words
    assert worse.workspace.champion.name.startswith("0002-")


def test_other_test_photographs_keep_the_champion_until_a_person_decides(weak: Study, photos: Path) -> None:
    strong = challenger(weak, photos)
    study = strong.workspace.study("challenger")
    ledger = study.ledger.read_text(encoding="utf-8")
    study.ledger.write_text(ledger.replace("7e" * 32, "8f" * 32), encoding="utf-8")
    words = rule(strong.workspace, strong.experiment, "significant").words
    assert "was not promoted" in words and "scored on other test photographs" in words
    standing = require_standing(strong.workspace, strong.experiment)
    decision = remember(study, standing.decision("approve", "a person", "looks better on the new ones"))
    assert approve(strong.workspace, strong.experiment, decision) == present_champion(strong.workspace)
    assert strong.workspace.champion.name.startswith("0002-")


def test_an_approval_holds_for_the_candidate_that_was_shown(weak: Study, photos: Path) -> None:
    strong = challenger(weak, photos)
    decision = replace(
        require_standing(strong.workspace, strong.experiment).decision("approve", "a"), candidate="0" * 64
    )
    with pytest.raises(DataError, match="is not the study's candidate any more"):
        approve(strong.workspace, strong.experiment, decision)
    assert strong.workspace.champion.name.startswith("0001-")


def test_what_was_promoted_once_stays_rolled_back_though_its_run_starts_again(weak: Study, photos: Path) -> None:
    strong = challenger(weak, photos)
    place, plan = strong.workspace, strong.experiment
    asked = replace(require_standing(place, plan).decision("approve", "a person", "yes"), run="a flow run")
    decision = remember(place.study("challenger"), asked)
    made = approve(place, plan, decision)
    assert place.champion == made.folder and approve(place, plan, decision) == made
    assert roll_back(place).name.startswith("0001-")
    assert approve(place, plan, decision) == made
    rules: tuple[Promotion, ...] = ("best", "significant")
    for promotion in rules:
        assert "has been the champion before; 0001-" in rule(place, plan, promotion).words
    assert place.champion.name.startswith("0001-") and len(read_decisions(place.study("challenger"))) == 1
    assert approve(place, plan, replace(decision, run=None)).folder == place.champion, "a person says so again"


def test_a_rule_that_is_killed_as_it_promotes_has_said_why(
    weak: Study, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = challenger(weak, photos)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(standing, "promote", Mock(side_effect=KeyboardInterrupt))
        rule(strong.workspace, strong.experiment, "significant")
    (decision,) = read_decisions(strong.workspace.study("challenger"))
    assert "is the champion now" in rule(strong.workspace, strong.experiment, "significant").words
    assert read_decisions(strong.workspace.study("challenger")) == [decision] and decision.choice == "approve"


def test_a_study_without_a_candidate_says_what_to_run(tmp_path: Path, weak: Study) -> None:
    empty = apply_overrides(weak.experiment, ["name=nothing"])
    with pytest.raises(DataError, match=r"no scored round.*photo-enhancer tune"):
        require_standing(weak.workspace, empty)
    assert find_candidate(Workspace(tmp_path / "elsewhere"), empty) is None


def test_notes_are_in_the_report_and_in_the_reasons_of_the_next_rounds(weak: Study, photos: Path) -> None:
    strong = challenger(weak, photos)
    place, standing = strong.workspace, require_standing(strong.workspace, strong.experiment)
    settings = settings_of_next_try(place, strong.experiment, ["training.epochs=30"])
    assert settings == ("training.epochs=30", "name=challenger-again-2")
    note = "too smooth, <b>film grain</b> is gone"
    said = replace(standing.decision("try again", "a person", note), overrides=settings)
    decision = remember(place.study("challenger"), said)
    assert remember(place.study("challenger"), replace(decision, when="later")) == decision, "stored once"
    following = hand_on(place, strong.experiment, decision)
    assert following.name == "challenger-again-2" and following.training.epochs == 30
    for name in ("challenger", "challenger-again-2"):
        assert remarks(place.study(name)) == [f'of round 0 of challenger it was said "{note}" (to be tried again)']
    assert note in [propose(place, following, number, []) for number in (0, 1)][1].reason
    assert settings_of_next_try(place, following, ["training.epochs=40"])[1] == "name=challenger-again-3"
    page = write_report(place, strong.experiment).read_text(encoding="utf-8")
    assert "too smooth, &lt;b&gt;film grain" in page and "<b>film grain" not in page
    assert "name=challenger-again-2" in page and "The champion is the LoRA of round 0 of weak" in page


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "say what to change"),
        (["training.epoch=3"], "did you mean 'training.epochs'"),
        (["tuning.rounds=8"], "so it is already"),
        (["training.epochs=-1"], "training.epochs"),
    ],
)
def test_another_try_must_change_something_valid(weak: Study, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of_next_try(weak.workspace, apply_overrides(weak.experiment, ["tuning.rounds=8"]), overrides)


def test_more_rounds_prolong_the_study_and_a_name_of_ones_own_is_kept(weak: Study) -> None:
    for overrides in (["tuning.rounds=12", "tuning.patience=9"], ["name=mine", "training.epochs=31"]):
        assert settings_of_next_try(weak.workspace, weak.experiment, overrides) == tuple(overrides)


def test_a_file_that_is_being_written_is_no_decision_judgement_or_comparison(weak: Study) -> None:
    study = weak.workspace.study("weak")
    (decision,) = read_decisions(study)
    for folder in (study.decisions, study.judgements, study.comparisons):
        write_text(folder / ".x.1-2.tmp.json", "")
    assert read_decisions(study) == [decision] and read_judgements(study) == [] and read_plans(study) == []


def test_a_damaged_decision_is_named(weak: Study) -> None:
    path = weak.workspace.study("weak").decisions / "x.json"
    write_json(path, {"study": "weak"})
    with pytest.raises(DataError, match=r"x\.json is not a decision"):
        read_decisions(weak.workspace.study("weak"))
