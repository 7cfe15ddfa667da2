"""`photo-enhancer doctor`: what is wrong with the installation, a line each, and how to mend it."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from flows.console import terminal_options
from flows.options import PATH
from flows.server import server_address
from lora_core.doctor import Check, examine

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the workspace and the downloads, which are done before the command runs."""

    @functools.wraps(command)
    def fetched(download_lpips: bool, download_weights: tuple[str, ...], **options: Any) -> None:
        for name in ("alexnet",) * download_lpips + download_weights:
            from lora_core.metrics.downloads import download

            click.echo(download(name))
        command(**options)

    lpips = click.option("--download-lpips", is_flag=True, help="Fetch the weights of the LPIPS score (233 MB), once.")
    weights = click.option(
        "--download-weights",
        multiple=True,
        metavar="NAME",
        help="Fetch weights that scoring.metrics needs, e.g. vgg16.",
    )
    workspace = click.argument("workspace", type=PATH, required=False)
    return workspace(lpips(weights(terminal_options(fetched))))


@click.command()
@doctor_options
def doctor(workspace: Path | None) -> None:
    """Check the installation, and a workspace if one is named."""
    show(examine(workspace, server_address()))


def show(checks: Iterable[Check]) -> None:
    """Prints a line each as it comes, and ends the command with 1 if something does not work."""
    failed = False
    for check in checks:
        click.secho(f"{check.status:4} ", fg=_COLOURS[check.status], nl=False)
        click.echo(check.line)
        failed |= check.status == "fail"
    if failed:
        click.get_current_context().exit(1)
