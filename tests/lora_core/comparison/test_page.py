"""The blind comparison, played through in a real browser, and what it must not give away."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from lora_core.comparison.choices import fold_choices
from lora_core.comparison.page import write_comparison
from lora_core.comparison.plan import Plan, read_plans
from lora_core.errors import ConfigError, DataError
from lora_core.files import file_digest, read_json, write_json
from lora_core.judging import human_scores, read_judgements
from tests.browser import headless_chromium, visit
from tests.report_study import HOSTILE, Study, make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), photos, rounds=2, limit=5, pruned=1)


@pytest.fixture(scope="module")
def page(study: Study) -> Path:
    return write_comparison(study.workspace, study.experiment, "base", 20).path


@pytest.fixture(scope="module")
def browser(browser_required: bool) -> Iterator[Browser]:
    with headless_chromium(required=browser_required) as opened:
        yield opened


def plan_of(study: Study, page: Path) -> Plan:
    return next(one for one in read_plans(study.workspace.study("study")) if one.page.startswith(page.parent.name))


def test_played_by_keyboard_it_gives_the_judges_choices(
    browser: Browser, study: Study, page: Path, tmp_path: Path
) -> None:
    winners = {pair.token: pair for pair in plan_of(study, page).pairs}
    with visit(browser, page) as seen:
        keys = ["ArrowLeft", "=", "ArrowRight", "ArrowRight", "ArrowLeft"]
        for at, (key, pair) in enumerate(zip(keys, winners.values(), strict=True)):
            assert seen.page.locator(".place").inner_text() == f"{at + 1} of 5"
            assert seen.page.locator(".photo").inner_text() == pair.photo
            shown = [Path(image.get_attribute("src") or "").stem for image in seen.page.locator(".stage img").all()]
            assert shown == list(pair.sides)
            if at == 3:  # a second thought, and a tab that was closed
                seen.page.keyboard.press("ArrowLeft")
                seen.page.keyboard.press("Backspace")
                assert seen.page.locator("[data-choice=left]").get_attribute("aria-pressed") == "true"
                seen.page.keyboard.press(key)
                seen.page.reload()
                continue
            seen.page.keyboard.press(key)
        choices = _download(seen.page, tmp_path)
        assert seen.errors == [] and all(address.startswith(page.parent.as_uri()) for address in seen.requests)
    judgement, new = fold_choices(study.workspace, study.experiment, choices)
    sides = {"ArrowLeft": 0, "ArrowRight": 1}
    expected = {
        pair.photo: "tie" if key == "=" else "win" if pair.sides[sides[key]] == pair.winner else "loss"
        for key, pair in zip(keys, winners.values(), strict=True)
    }
    assert new and judgement.outcomes == expected and judgement.against == "base"
    assert fold_choices(study.workspace, study.experiment, choices) == (judgement, False)
    (score,) = human_scores(read_judgements(study.workspace.study("study")), judgement.winner)
    assert (score.judges, score.comparisons, score.ties) == (1, 5, 1)


def test_an_unfinished_page_counts_with_what_was_judged_and_can_be_finished_later(
    browser: Browser, study: Study, tmp_path: Path
) -> None:
    page = write_comparison(study.workspace, study.experiment, "classical", 3).path
    folder = study.workspace.study("study")
    with visit(browser, page) as seen:
        seen.page.keyboard.press("=")
        seen.page.get_by_role("button", name="Stop here").click()
        assert "1 of 3 photographs are compared" in seen.page.locator(".count").inner_text()
        early, _ = fold_choices(study.workspace, study.experiment, _download(seen.page, tmp_path))
        assert (len(early.outcomes), early.asked) == (1, 3)
        seen.page.get_by_role("button", name="Back").last.click()
        for _ in range(2):
            seen.page.get_by_role("button", name="No difference").click()
        late, new = fold_choices(study.workspace, study.experiment, _download(seen.page, tmp_path))
        assert new and len(late.outcomes) == 3 and late in read_judgements(folder)
        assert early not in read_judgements(folder)  # one judge, one judgement
        seen.page.get_by_role("button", name="Start again as another judge").click()
        for _ in range(3):
            seen.page.keyboard.press("=")
        other, _ = fold_choices(study.workspace, study.experiment, _download(seen.page, tmp_path))
    scores = human_scores(read_judgements(folder), other.winner)
    assert [(score.judges, score.ties) for score in scores if score.rival_name == other.rival_name] == [(2, 6)]


def _download(page: Page, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the choices").click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def test_zoom_shows_both_pictures_at_the_same_place(browser: Browser, page: Path) -> None:
    with visit(browser, page) as seen:
        images, stages = seen.page.locator(".stage img"), seen.page.locator(".stage")
        seen.page.wait_for_function("[...document.images].filter(image => image.src).every(image => image.complete)")
        fitted = images.first.evaluate("image => image.style.transform")
        box = stages.first.bounding_box()
        assert box
        seen.page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3)
        zoomed = [image.evaluate("image => image.style.transform") for image in images.all()]
        assert zoomed[0] == zoomed[1] != fitted and "scale(8)" in zoomed[0]
        seen.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6)
        moved = [image.evaluate("image => image.style.transform") for image in images.all()]
        assert moved[0] == moved[1] != zoomed[0]
        seen.page.keyboard.press("z")
        assert images.first.evaluate("image => image.style.transform") == fitted


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_everything_fits_the_screen(browser: Browser, page: Path, width: int, dark: bool) -> None:
    with visit(browser, page, width=width, height=800, dark=dark) as seen:
        for _ in range(6):
            size = seen.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            assert size == [width, 800]
            seen.page.keyboard.press("=")
        assert seen.page.locator(".end").is_visible() and seen.errors == []


def test_hostile_names_are_text_and_the_page_names_no_side(browser: Browser, study: Study, page: Path) -> None:
    source, plan = page.read_text(encoding="utf-8"), plan_of(study, page)
    assert HOSTILE not in source
    assert not any(word in source for word in (plan.winner, plan.rival, "winner", "rival", "base", "lora-", "LoRA"))
    assert {pair.swapped for pair in plan.pairs} == {True, False}
    names = {path.name for path in (page.parent / "pictures").iterdir()}
    assert names == {f"{token}.png" for pair in plan.pairs for token in (*pair.sides, pair.source)}
    with visit(browser, page) as seen:
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for pair in plan.pairs:
            assert seen.page.locator(".photo").inner_text() == pair.photo
            seen.page.keyboard.press("=")
        assert HOSTILE in [pair.photo for pair in plan.pairs]
        assert (dialogs, seen.errors) == ([], []) and seen.page.locator("img[src=x]").count() == 0


def test_each_token_is_the_picture_that_the_key_says(study: Study, page: Path) -> None:
    plan = plan_of(study, page)
    for pair in plan.pairs:
        for token, folder in ((pair.winner, plan.winner), (pair.rival, plan.rival)):
            shown = page.parent / "pictures" / f"{token}.png"
            assert file_digest(shown) == file_digest(study.root / "cells" / folder / f"{pair.photo}.png")


def test_the_same_question_gives_the_same_page(study: Study, page: Path) -> None:
    before = {path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    assert write_comparison(study.workspace, study.experiment, "base", 20).path == page
    assert before == {
        path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*") if path.is_file()
    }
    assert write_comparison(study.workspace, study.experiment, "base", 2).photos == 2


def test_the_input_is_not_shown_where_it_is_one_of_the_two(browser: Browser, study: Study) -> None:
    made = write_comparison(study.workspace, study.experiment, "input", 2)
    with visit(browser, made.path) as seen:
        assert seen.page.locator(".source").is_hidden() and seen.page.locator(".stage img").count() == 2


@pytest.mark.parametrize(
    ("against", "kind", "message"),
    [
        ("everything", ConfigError, "--against everything: choose base, input, classical, or round:N"),
        ("round:", ConfigError, "--against round:: choose base"),
        ("round:1", DataError, "that is the best round itself"),
        ("round:2", DataError, "stopped early and has no winner"),
        ("round:9", DataError, "no such round is finished; there are 0, 1"),
    ],
)
def test_nothing_to_compare_with_is_named(study: Study, against: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        write_comparison(study.workspace, study.experiment, against, 20)


def test_another_round_must_have_its_pictures_and_the_same_photographs(study: Study, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(study.workspace.root, root)
    copy = Study(type(study.workspace)(root), study.experiment, {})
    assert "round 0" in write_comparison(copy.workspace, copy.experiment, "round:0", 20).rival
    result = read_json(copy.root / "round-000" / "result.json")
    shutil.rmtree(copy.root / "cells" / result["winner"]["id"])
    with pytest.raises(DataError, match=r"cleared away; restore the photographs again: photo-enhancer sweep --round 0"):
        write_comparison(copy.workspace, copy.experiment, "round:0", 20)
    write_json(copy.root / "round-000" / "result.json", json.loads(json.dumps(result)) | {"test_digest": "ff" * 32})
    with pytest.raises(DataError, match="scored on other photographs than round 1"):
        write_comparison(copy.workspace, copy.experiment, "round:0", 20)
