"""Which files may be read, and how a browser is to take them."""

import mimetypes
import os
from pathlib import Path

from starlette.responses import FileResponse, Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from deployments.pages.shelf import is_hidden, is_training, is_workspace

PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report holds its styles, script and pictures; a comparison has its pictures beside it. Nothing else is loaded."""
NO_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; sandbox"
_AS_TEXT = {".md", ".yaml", ".yml", ".jsonl", ".log", ".csv", ".txt"}


def may_be_read(root: Path, path: str) -> bool:
    """Whether a path below `root` is a file of a workspace's output, or the report of a base training.

    Hidden names are refused, and the keys of the blind comparisons: who judges must not look up whose side is whose.

    Args:
        root: resolved; the path is taken literally, links in it are followed by whoever opens it.
    """
    parts = Path(path).parts
    if not parts or any(is_hidden(part) or part == ".." for part in parts) or Path(path).is_absolute():
        return False
    if parts[-1] == "report.html" and is_training(folder := root.joinpath(*parts[:-1])):
        return _lies_in(folder / parts[-1], folder)
    outputs = (place for place, part in enumerate(parts[:-1]) if part == "output")
    return any(
        is_workspace(folder := root.joinpath(*parts[:place])) and _lies_in(root.joinpath(*parts), folder / "output")
        for place in outputs
    ) and not _is_key(root.joinpath(*parts))


def _is_key(path: Path) -> bool:
    """Whether it lies beside the pages to judge blind; macOS opens "Comparisons" as well, Windows "comparisons."."""
    return any(one.parent.name.casefold() == "comparisons" for one in (path, path.resolve()))


def _lies_in(path: Path, folder: Path) -> bool:
    """Links followed: the file that a link in one workspace's output names must lie there too."""
    return path.resolve().is_relative_to(folder.resolve())


class OutputFiles(StaticFiles):
    """Starlette's static files, less what `may_be_read` refuses: no listing, GET and HEAD alone, ETag and ranges."""

    def __init__(self, root: Path) -> None:
        super().__init__(directory=root)
        self.root = root.resolve()

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """The file to open and its status; none where it may not be read."""
        return super().lookup_path(path) if may_be_read(self.root, path) else ("", None)

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer; what is no page of ours can run nothing, whatever it holds."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        suffix = Path(str(full_path)).suffix.lower()
        response.headers["Content-Security-Policy"] = PAGE_POLICY if suffix == ".html" else NO_PAGE_POLICY
        if isinstance(response, FileResponse):
            response.headers["Content-Type"] = _content_type(suffix)
        return response


def _content_type(suffix: str) -> str:
    if suffix in _AS_TEXT:
        return "text/plain; charset=utf-8"
    known = mimetypes.guess_type(f"file{suffix}")[0] or "application/octet-stream"
    return f"{known}; charset=utf-8" if known.startswith("text/") else known
