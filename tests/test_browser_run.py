"""A person's way through the pages: the tuning form, its run, the report, the form of the promotion.

Real server, workers and Chromium; what was seen is kept in build/screenshots.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from lora_core.workspace import Workspace
from tests.browser import headless_chromium, visit
from tests.served import Served
from tests.small_round import QUICK, make_workspace

PICTURES = Path(__file__).parents[1] / "build" / "screenshots"
RUN_SECONDS = 240_000.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, miniature: Path, photos: Path) -> Iterator[Served]:
    """A root with one workspace, served."""
    root = tmp_path_factory.mktemp("served")
    make_workspace(root / "work", miniature, photos, QUICK)
    served = Served(root)
    served.up()
    try:
        yield served
    finally:
        served.down()


@pytest.fixture(scope="module")
def browser(browser_required: bool) -> Iterator[Browser]:
    """A headless Chromium."""
    with headless_chromium(required=browser_required) as opened:
        yield opened


def keep(page: Page, name: str) -> None:
    """A picture for the eye."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def choose(select: Locator, option: str) -> None:
    """Opens one of Prefect's lists with the keyboard and takes a line of it."""
    select.click()
    select.press("ArrowDown")
    select.page.locator(".p-select-option", has_text=re.compile(f"^{option}$")).click()


def submit(page: Page, address: str) -> None:
    """Presses Submit until the page goes on; on a slow machine the first press may only take the focus from a list."""
    for last in (False, False, True):
        page.get_by_role("button", name="Submit").click()
        try:
            return page.wait_for_url(address, timeout=20_000)
        except TimeoutError:
            if last:
                raise


def wait_for_state(page: Page, state: str) -> None:
    """Prefect's page of a run follows it by itself."""
    expect(page.locator(".state-badge").first).to_have_text(state, timeout=RUN_SECONDS)


def run_id(deployment: str) -> str:
    """The one run of a deployment."""
    with get_client(sync_client=True) as client:
        wanted = client.read_deployment_by_name(deployment)
        (run,) = [run for run in client.read_flow_runs() if run.deployment_id == wanted.id]
    return str(run.id)


@pytest.mark.skipif(sys.platform == "win32", reason="serve is ended by a signal here")
def test_a_person_tunes_looks_and_promotes(browser: Browser, served: Served) -> None:
    workspace = Workspace(served.root / "work")
    with temporary_settings({PREFECT_API_URL: served.api}), visit(browser, f"{served.ui}/deployments") as seen:
        page = seen.page
        page.set_default_timeout(60_000)
        page.get_by_placeholder("Search deployments").fill("tuning")
        page.get_by_text("13 Deployments").wait_for(state="detached")
        page.get_by_text("tuning", exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        page.locator("textarea").first.fill("work")
        page.get_by_text("Add item").click()
        page.locator("textarea").nth(1).fill("tuning.rounds=1")
        choose(page.locator(".p-select-button").first, "ask")
        keep(page, "1-tuning-form")
        submit(page, "**/deployment/*?tab=Runs")
        page.goto(f"{served.ui}/runs/flow-run/{run_id('tuning/tuning')}")
        wait_for_state(page, "Completed")
        expect(page.get_by_text("Round 0 of at most 1: the experiment as written")).to_be_visible()
        keep(page, "2-tuning-run")
        assert not (workspace.champions / "current.json").exists(), "nobody was asked yet"

        page.goto(f"{served.ui}/runs/flow-run/{run_id('promote/promote')}")
        wait_for_state(page, "Suspended")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("Shall round 0 of mini become the champion?")).to_be_visible()
        keep(page, "3-promotion-form")
        report = page.get_by_role("link", name="Report with pictures").get_attribute("href")
        assert report is not None
        with visit(browser, report) as opened:
            expect(opened.page).to_have_title(re.compile(r"\bmini\b"))
            expect(opened.page.get_by_role("heading", level=1)).to_be_visible()
            keep(opened.page, "4-report")
            assert not opened.errors
        choose(page.locator(".p-modal .p-select-button, [role=dialog] .p-select-button").first, "approve")
        page.locator("[role=dialog] textarea, .p-modal textarea").first.fill("Good enough <b>for now</b>")
        page.get_by_role("button", name="Submit").click()
        wait_for_state(page, "Completed")
        keep(page, "5-promoted")
    assert (workspace.champion / "settings.json").exists()
    with visit(browser, report) as opened:
        expect(opened.page.get_by_text("Good enough <b>for now</b>").first).to_be_visible()
        keep(opened.page, "6-report-with-decision")
