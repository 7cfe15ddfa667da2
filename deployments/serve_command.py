"""`photo-enhancer serve`: everything that runs from the Prefect UI and on schedules needs, from one command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from flows.console import PROGRAM, terminal_options
from lora_core.errors import ConfigError, ResourceError

_PORT = click.IntRange(1, 65535)


@click.command()
@click.argument("root", type=click.Path(path_type=Path, file_okay=False), default=Path("."))
@click.option("--port", type=_PORT, help="Of the Prefect server.  [default: PREFECT_API_URL's, or 4200]")
@click.option("--pages-port", type=_PORT, help="Of reports and comparisons.  [default: the server's + 1]")
@click.option("--tensorboard-port", type=_PORT, help="Of TensorBoard.  [default: the server's + 2]")
@click.option("--gpus", type=click.IntRange(1), metavar="N", help="GPU runs at once.  [default: one for each GPU]")
@click.option("--no-pages", is_flag=True, help="Without reports and comparisons on a page.")
@click.option("--no-tensorboard", is_flag=True, help="Without TensorBoard.")
@click.option("--retrain", "workspace", metavar="WORKSPACE", help="A workspace to retrain on a schedule.")
@click.option("--cron", metavar="LINE", help="With --retrain: when, such as '0 3 * * 0'.")
@click.option(
    "--when-changed", type=click.IntRange(1), metavar="MINUTES", help="With --retrain: look for new photographs."
)
@click.option("--timezone", metavar="NAME", help="Of --cron.  [default: this machine's]")
@terminal_options
def serve(
    root: Path,
    workspace: str | None,
    cron: str | None,
    when_changed: int | None,
    timezone: str | None,
    **options: Any,
) -> None:
    """Run the flows from the Prefect UI and on schedules, for the workspaces below ROOT.

    Starts a Prefect server (if none is configured), two workers, pages with reports, and TensorBoard; installs what
    restarts crashed runs. Ctrl-C ends everything; runs that are under way go on at the next start.
    """
    if bool(workspace) != bool(cron or when_changed):
        raise click.UsageError("--retrain belongs with --cron or --when-changed")
    from deployments.schedules import Retraining, local_timezone

    root = root.absolute()
    workspace = workspace and _below(root, workspace)
    wanted = []
    if workspace and cron:
        wanted.append(Retraining(workspace, cron=cron, timezone=timezone or local_timezone()))
    if workspace and when_changed:
        wanted.append(Retraining(workspace, minutes=when_changed))
    for retraining in wanted:
        retraining.schedule()  # a mistake is told before anything starts
    with _alone(root), _ends_by_signals():
        from deployments.launch import Launch
        from deployments.services import Wish

        launch = Launch(root, Wish(**options), click.echo)
        try:
            launch.up()
            for retraining in wanted:
                launch.retrain(retraining)
            launch.show_addresses()
            launch.watch()
        except _Ended:
            click.echo("\nStopping ...")
        finally:
            _deaf()
            launch.down()
    click.echo("Stopped.")


def _below(root: Path, workspace: str) -> str:
    """The workspace as the form takes it, relative to the root; an address stays.

    Raises:
        ConfigError: it is not there, or lies elsewhere.
    """
    from lora_core.storage.places import is_url, local_folder

    if is_url(workspace) and local_folder(workspace) is None:
        return workspace
    named = local_folder(workspace) or Path(workspace)
    places = dict.fromkeys(((root / named).resolve(), named.resolve()))
    found = next((place for place in places if (place / "experiment.yaml").is_file()), None)
    if found is None:
        looked = " and ".join(map(str, places))
        raise ConfigError(f"--retrain {workspace}: there is no experiment.yaml in {looked}; name a workspace")
    if not found.is_relative_to(root.resolve()):
        raise ConfigError(f"--retrain {workspace} lies outside of {root}, which is served; serve a folder above it")
    return found.relative_to(root.resolve()).as_posix()


class _Ended(BaseException):
    """The user or the system wants an end."""


@contextmanager
def _ends_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise `_Ended`, the first of them only; the block may let it pass."""

    def end(*_: object) -> None:
        _deaf()
        raise _Ended

    before = {number: signal.signal(number, end) for number in _signals()}
    try:
        yield
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf() -> None:
    """A second Ctrl-C must not leave half of the processes behind."""
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Holds the root for this process.

    Raises:
        ConfigError: it cannot be made.
        ResourceError: another `serve` holds it.
    """
    folder = root / ".photo-enhancer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made ({error.strerror}); serve a folder that you may write to"
        ) from error
    lock = FileLock(str(folder / "serve.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ResourceError(f"{root} is served already by another {PROGRAM} serve; stop that one first") from error
    try:
        yield
    finally:
        lock.release()
