"""What a person sees on the terminal: stages as plain lines, errors as one line, Prefect in the background."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from flows import LOGGERS
from lora_core.errors import UserError
from lora_core.secrets import masked

PROGRAM = "photo-enhancer"
INTERRUPTED = 130
# Read when Prefect is imported. Its log stays whole on the server; the terminal shows ours instead.
_PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


@dataclass
class Terminal:
    """How much to show.

    Attributes:
        debug: tracebacks, and Prefect's own log.
        verbose: Prefect's own log.
    """

    debug: bool = False
    verbose: bool = False

    def set_up(self) -> None:
        """Prepares environment and logging; call it before Prefect is imported."""
        defaults = dict(_PREFECT)
        if not (self.debug or self.verbose):
            defaults["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.INFO)
            logger.propagate = False
            if not any(isinstance(handler, _Lines) for handler in logger.handlers):
                logger.addHandler(_Lines())

    def explain(self, error: BaseException) -> int:
        """Prints what went wrong and returns the exit code; a defect of ours keeps its traceback."""
        if isinstance(error, KeyboardInterrupt | click.Abort):
            click.echo(f"\n{PROGRAM}: interrupted; the same command goes on where it stopped", err=True)
            return INTERRUPTED
        if self.debug or not isinstance(error, UserError | click.ClickException):
            traceback.print_exception(error, file=sys.stderr)
        if isinstance(error, UserError | click.ClickException):
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            click.echo(f"{PROGRAM}: error: {' '.join(message.split())}", err=True)
            return error.exit_code
        click.echo(f"{PROGRAM}: this is a defect, or a broken installation: try {PROGRAM} doctor", err=True)
        return 1


def terminal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --verbose and --debug, and prepares the terminal before the command runs."""

    @functools.wraps(command)
    def prepared(debug: bool, verbose: bool, **options: Any) -> None:
        terminal = click.get_current_context().ensure_object(Terminal)
        terminal.debug, terminal.verbose = debug, verbose
        terminal.set_up()
        command(**options)

    verbose = click.option("--verbose", is_flag=True, help="Show Prefect's log too.")
    return verbose(click.option("--debug", is_flag=True, help="Show tracebacks and Prefect's log.")(prepared))


class _Lines(logging.Handler):
    """Plain lines on stderr; `click.echo` finds the stream anew each time, so that a progress bar can lend its own."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        click.echo(mark + masked(record.getMessage()), err=True)
