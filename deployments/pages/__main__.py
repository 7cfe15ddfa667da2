"""The command line of the page server."""

import ipaddress
from pathlib import Path

import click
import uvicorn

from deployments.pages.application import create_application
from deployments.pages.links import Links

_EXIT_SECONDS = 3
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--root", type=_FOLDER, default=".", show_default=True, help="Folder below which the workspaces lie.")
@click.option("--port", type=click.IntRange(1, 65535), default=4201, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--allow", multiple=True, metavar="NAME", help="Another name under which it is reached; repeatable.")
def main(root: Path, port: int, host: str, allow: tuple[str, ...]) -> None:
    """Show reports, comparisons and champions of all workspaces below a folder. Nothing is written.

    There is no password: listen on 127.0.0.1 alone, or put a proxy that asks for one in front. The search history
    of a study, which has a port of its own, is linked only where the pages listen on this machine alone.
    """
    names = (_as_named(host), *allow)
    application = create_application(root.resolve(), names, Links.of_environment(), studies=_is_loopback(host))
    uvicorn.run(
        application,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_EXIT_SECONDS,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_named(host: str) -> str:
    """The address as a browser writes it into the Host header."""
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


if __name__ == "__main__":
    main()
