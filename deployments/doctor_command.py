"""`photo-enhancer doctor` with what runs unattended: server, work pools, slots, automations, deployments."""

from collections.abc import Iterator
from pathlib import Path

import click

from flows.doctor_command import doctor_options, show
from flows.server import server_address
from lora_core.doctor import Check, examine


@click.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended on the Prefect server.")
@doctor_options
def doctor(workspace: Path | None, repair: bool) -> None:
    """Check the installation, the Prefect server if one is configured, and a workspace if one is named."""
    show(_examine(workspace, repair))


def _examine(workspace: Path | None, repair: bool) -> Iterator[Check]:
    server = server_address()
    yield from examine(workspace, server)
    if server is not None:
        from deployments.checks import operations

        yield from operations(server, repair)
    elif repair:
        yield Check("warn", "nothing to repair", "set PREFECT_API_URL to the server that photo-enhancer serve named")
