"""The page of a base model, as text and in a real browser."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from lora_core.errors import ConfigError, DataError
from lora_core.pretraining.page import write_pretraining_report
from tests.browser import headless_chromium, visit
from tests.lora_core.pretraining.made_up import HOSTILE, make_work, save_recipe
from tests.lora_core.test_report import _CUT_LABELS, _FAINT_TEXT


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretraining_report(make_work(tmp_path_factory.mktemp("full")))


@pytest.fixture(scope="module")
def empty_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("empty")
    save_recipe(work)
    return write_pretraining_report(work)


@pytest.fixture(scope="module")
def browser(browser_required: bool) -> Iterator[Browser]:
    with headless_chromium(required=browser_required) as opened:
        yield opened


def words_of(path: Path) -> str:
    """The page's text as a reader sees it."""
    body = re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_verdict_comes_first_and_the_numbers_are_those_of_the_files(page: Path) -> None:
    text = words_of(page)
    assert "Add photographs: it knows these by heart." in text.partition("Training of the UNet")[0]
    assert "36 % of what answering the mean would cost (0.83)" in text
    for shown in ("28.4 dB", "9,000", "1 h 38 min", "98 % of the time", "smaller than 256 pixels (75)", "PSNR-Y +0.85"):
        assert shown in text
    assert "0.7100 75 % of answering the mean" in text and "0.4100 Loss" in text
    assert "57 more are in data/rejects.jsonl" in text and "8 of 12 are shown" in text
    assert "perceptual distance −12.0 %" in text and "60 best" in text.partition("Checkpoints")[2]
    assert not re.search(r"https?://", page.read_text(encoding="utf-8"))


def test_before_anything_has_run_the_page_says_so(empty_page: Path) -> None:
    text = words_of(empty_page)
    for said in ("Nothing has been trained yet.", "It has not begun.", "not been evaluated yet", "have not been read"):
        assert said in text


def test_a_stage_under_way_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    (work / "evaluation.json").unlink()
    (work / "unet" / "done.json").unlink()
    validation = work / "unet" / "validation.jsonl"
    validation.write_text(validation.read_text()[:-40])  # a line that is being written
    text = words_of(write_pretraining_report(work))
    assert "The UNet is being trained. Epoch 59: the loss on unseen photographs is 0.3" in text
    shutil.rmtree(work / "unet")
    assert "The autoencoder is trained. The UNet comes next." in words_of(write_pretraining_report(work))
    shutil.rmtree(work / "autoencoder")
    assert "9,000 photographs are enough for a quick test" in words_of(write_pretraining_report(work))


def test_broken_files_are_named(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    (work / "unet" / "done.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot read .*done\.json"):
        write_pretraining_report(work)
    (work / "recipe.yaml").unlink()
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        write_pretraining_report(work)


def test_opens_offline_without_errors_or_requests_and_hostile_names_are_text(browser: Browser, page: Path) -> None:
    assert HOSTILE not in page.read_text(encoding="utf-8")
    with visit(browser, page) as seen:
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        seen.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        assert seen.page.locator(".left th", has_text=HOSTILE).count() == 1
        assert HOSTILE in seen.page.locator("#samples .lead").inner_text()
        assert seen.page.locator("script").count() == 0
        assert seen.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert seen.page.locator(".chart.wide svg").count() == 4
        assert (dialogs, seen.errors, seen.requests) == ([], [], [])


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_nothing_overflows_and_everything_is_readable(
    browser: Browser, page: Path, empty_page: Path, width: int, dark: bool
) -> None:
    for one in (page, empty_page):
        with visit(browser, one, width=width, dark=dark) as seen:
            seen.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
            assert seen.page.evaluate("document.documentElement.scrollWidth") == width
            assert seen.page.evaluate(_CUT_LABELS) == []
            assert seen.page.evaluate(_FAINT_TEXT) == []
            assert (seen.errors, seen.requests) == ([], [])
