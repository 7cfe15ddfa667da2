"""Opens a file or an address in headless Chromium and keeps what a test asks about: errors and requests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Visit:
    """An open page.

    Attributes:
        errors: console errors and uncaught exceptions, in order.
        requests: addresses that the page asked for; the page itself and data URIs are none.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def headless_chromium(*, required: bool) -> Iterator[Browser]:
    """The machine's own Chromium.

    Args:
        required: fail where there is none, instead of skipping the test.
    """
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        (pytest.fail if required else pytest.skip)(f"no Chromium on this machine (looked for {', '.join(_NAMES)})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser, place: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Visit]:
    """Opens a file or an address in a fresh profile at a screen size in pixels."""
    address = place.absolute().as_uri() if isinstance(place, Path) else place
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    seen = Visit(context.new_page())
    seen.page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.on(
        "request",
        lambda request: (
            None if request.url == address or request.url.startswith("data:") else seen.requests.append(request.url)
        ),
    )
    try:
        seen.page.goto(address)
        yield seen
    finally:
        context.close()
