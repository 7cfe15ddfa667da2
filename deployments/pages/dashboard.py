"""One study in optuna-dashboard, for reading: `python -m deployments.pages.dashboard study.log`.

Prints the port that it took on 127.0.0.1 and ends when its standard input does, that is with the process that started
it. The journal is never written: whoever reaches the page can look, and neither delete nor rename the study.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

Application = Callable[..., Iterable[bytes]]
_NAMES = ("127.0.0.1", "localhost")


class ReadOnlyJournal(JournalFileBackend):
    """A journal that another process writes."""

    def append_logs(self, logs: list[dict[str, Any]]) -> NoReturn:
        """Refuses.

        Raises:
            PermissionError: always.
        """
        raise PermissionError("this dashboard only reads the study")


def read_only(application: Application) -> Application:
    """The application for GET and HEAD alone, and only under this machine's own names (DNS rebinding)."""

    def guarded(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        name = environment.get("HTTP_HOST", "").rpartition(":")[0]
        if name not in _NAMES:
            return _refuse(start, "400 Bad Request", "unknown host")
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start, "403 Forbidden", "this dashboard only reads the study")
        return application(environment, start)

    return guarded


def _refuse(start: Callable[..., Any], status: str, reason: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [f'{{"reason": "{reason}"}}'.encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not worth a line."""


def main(journal: Path) -> None:
    """Serves until standard input ends."""
    from optuna_dashboard import wsgi

    application = read_only(wsgi(JournalStorage(ReadOnlyJournal(str(journal)))))
    server = make_server("127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()


def _end_with_starter() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
