"""The page server: a home page, the files of the workspaces, model cards, and the way to a study's dashboard."""

import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.pages.dashboards import Dashboards, is_installed
from deployments.pages.files import OutputFiles, may_be_read
from deployments.pages.links import Links
from deployments.pages.shelf import read_shelf
from deployments.pages.words import WORDS
from lora_core import report
from lora_core.errors import UserError
from lora_core.report.templating import environment

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_TEMPLATES = Path(__file__).with_name("templates")
_SHARED = Path(report.__file__).with_name("templates")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask again each time; the ETag answers
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
}


def create_application(
    root: Path, names: Sequence[str] = (), links: Links | None = None, *, studies: bool = True
) -> Starlette:
    """The server's application.

    Args:
        root: folder below which the workspaces lie, resolved.
        names: further names under which browsers may reach it, besides this machine's own.
        links: addresses of the services beside it.
        studies: whether a study's dashboard, which listens on this machine's own 127.0.0.1, is within a browser's
            reach; else there are no links to it.
    """
    pages = _Pages(root, links or Links(), Dashboards() if studies else None)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if pages.dashboards:
            pages.dashboards.close()

    return Starlette(
        routes=[
            Route("/", pages.home, methods=["GET"]),
            Route("/health", lambda _: PlainTextResponse("ok"), methods=["GET"]),
            Route("/cards/{path:path}", pages.card, methods=["GET"]),
            Route("/studies/{path:path}", pages.study, methods=["GET"]),
            Mount("/files", OutputFiles(root)),
        ],
        middleware=[
            Middleware(_SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*OWN_NAMES, *names], www_redirect=False),
        ],
        exception_handlers={HTTPException: pages.problem},
        lifespan=lifespan,
    )


class _Pages:
    """The answers that are no files."""

    def __init__(self, root: Path, links: Links, dashboards: Dashboards | None) -> None:
        self.root, self.links, self.dashboards = root, links, dashboards
        self.templates = environment(_TEMPLATES, _SHARED)
        self.templates.globals.update(WORDS)

    def home(self, request: Request) -> Response:
        """All workspaces; read anew each time."""
        workspaces, trainings = read_shelf(self.root)
        running = any(study.begun for workspace in workspaces for study in workspace.studies)
        return self._page(
            "home.html",
            workspaces=workspaces,
            trainings=trainings,
            links=self.links,
            root=self.root,
            running=running,
            dashboards=self.dashboards is not None,
        )

    def card(self, request: Request) -> Response:
        """A champion's model card as a page; HTML in it is shown as text."""
        path = request.path_params["path"]
        file = self.root / path
        if not path.endswith(".md") or not may_be_read(self.root, path) or not file.is_file():
            raise HTTPException(404)
        made = MarkdownIt("js-default").render(file.read_text(encoding="utf-8", errors="replace"))
        return self._page("card.html", title=file.parent.name, card=Markup(made))

    async def study(self, request: Request) -> Response:
        """Starts the study's dashboard and goes there; without the package, the page says how to get it."""
        path = f"{request.path_params['path']}/study.log"
        file = self.root / path
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise HTTPException(403, "Open this from the home page.")  # no other site may start processes here
        if self.dashboards is None or not may_be_read(self.root, path) or not file.is_file():
            raise HTTPException(404)
        if not is_installed():
            return self._page(
                "dashboard.html", name=file.parent.name, command=shlex.join(["optuna-dashboard", str(file)])
            )
        try:
            return RedirectResponse(await run_in_threadpool(self.dashboards.address, file), 303)
        except UserError as error:
            raise HTTPException(500, str(error)) from error

    def problem(self, request: Request, error: Exception) -> Response:
        """A page instead of an error's bare words."""
        assert isinstance(error, HTTPException)
        says = "There is no such page." if error.status_code == 404 else error.detail
        return self._page("problem.html", error.status_code, error.headers, says=says)

    def _page(self, template: str, status: int = 200, headers: Any = None, **values: Any) -> HTMLResponse:
        style = "".join((folder / name).read_text(encoding="utf-8") for folder, name in _STYLES)
        return HTMLResponse(
            self.templates.get_template(template).render(style=Markup(style), **values), status, headers
        )


_STYLES = ((_SHARED, "style.css"), (_TEMPLATES, "pages.css"))


class _SecurityHeaders:
    """What every answer says, unless it says something of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and adds the headers to its answer."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = ((name.lower().encode(), text.encode()) for name, text in _HEADERS.items())
                message["headers"] = [*message["headers"], *(pair for pair in missing if pair[0] not in present)]
            await send(message)

        await self.app(scope, receive, add)
