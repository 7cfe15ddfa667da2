"""The command line. Neither torch nor Prefect is imported before a command runs, so that help answers at once."""

import functools
import importlib
import os
import shlex
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flows.compare_command import compare, judge
from flows.console import PROGRAM, Terminal, terminal_options
from flows.export_command import export
from flows.parameters import settle, settle_round
from flows.server import start_own_server
from lora_core import __version__
from lora_core.errors import ResourceError
from lora_core.experiment import (
    DegradationName,
    DegradationSection,
    Experiment,
    PresetName,
    apply_overrides,
    load_preset,
)
from lora_core.pretraining.recipe import RecipePreset
from lora_core.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

Command = Callable[..., Any]
_PATH = click.Path(path_type=Path)
_PRESETS = click.Choice(get_args(PresetName))
_RECIPES = click.Choice([name for name in get_args(DegradationName) if name != "own"])


_workspace = click.argument("workspace", type=_PATH, default=Path("."))
_file = click.option("--experiment", type=_PATH, metavar="FILE", help="Instead of the workspace's experiment.yaml.")
_preset = click.option("--preset", type=_PRESETS, help="A shipped experiment instead of a file.")
_set = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting: training.epochs=8; repeatable."
)
_round = click.option(
    "--round", "number", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="The round, from 0."
)


def _experiment(command: Command) -> Command:
    """Adds the workspace and what says which experiment runs there."""
    return _workspace(_file(_preset(_set(terminal_options(command)))))


def _racing(command: Command) -> Command:
    """Adds --exhaustive, another way to write --set sweep.race=false."""

    @functools.wraps(command)
    def told(exhaustive: bool, overrides: tuple[str, ...], **options: Any) -> None:
        command(overrides=(*overrides, "sweep.race=false") if exhaustive else overrides, **options)

    return click.option("--exhaustive", is_flag=True, help="No race: every setting restores every test photograph.")(
        told
    )


def _flow(name: str) -> Callable[..., Any]:
    """The flow of a module, with a server to run on; one that cannot start would be waited for in vain."""
    from lora_core.doctor import check_server, check_server_versions

    for check in (check_server_versions(), check_server(_server_address())):
        if check.status == "fail":
            raise ResourceError(check.line)
    start_own_server()
    flow: Callable[..., Any] = getattr(importlib.import_module(f"flows.{name}"), f"{name}_flow")
    return flow


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Finds the LoRA that restores your photographs.

    \b
    Try it:            photo-enhancer demo
    A new workspace:   photo-enhancer init DIR --photos FOLDER
    The whole loop:    photo-enhancer tune DIR

    A command that was stopped goes on where it was when it is given again.
    """


@cli.command()
@click.argument("workspace", type=_PATH)
@click.option("--photos", type=_PATH, metavar="FOLDER", help="Clean photographs to copy into the workspace.")
@click.option("--test", type=_PATH, metavar="FOLDER", help="Clean photographs to score on, instead of a hold-out.")
@click.option("--hold-out", type=float, default=0.1, show_default=True, help="Share of --photos that is scored on.")
@click.option("--preset", type=_PRESETS, default="pocket", show_default=True, help="The experiment to start from.")
@_set
@terminal_options
def init(
    workspace: Path, photos: Path | None, test: Path | None, hold_out: float, preset: str, overrides: tuple[str, ...]
) -> None:
    """Make a workspace: folders, photographs, experiment.yaml."""
    from lora_core.preparation import create_workspace

    created = create_workspace(workspace, preset, photos, test, hold_out, overrides)
    for bad in created.unreadable:
        click.echo(f"warning: left out, cannot be read: {bad.path}: {bad.reason}", err=True)
    click.echo(f"{workspace}: {created.train} photographs to train on, {created.test} to score on")
    if not created.train:
        click.echo(f"Put clean photographs into {created.workspace.targets}, others into {created.workspace.test}")
    click.echo(f"Settings: {created.workspace.experiment}\nNext: {PROGRAM} tune {shlex.quote(str(workspace))}")


@cli.command()
@_workspace
@click.option("--from", "source", type=_PATH, metavar="FOLDER", help="Degrade this folder, without a workspace.")
@click.option("--to", "target", type=_PATH, metavar="FOLDER", help="Where its degraded twins go.")
@click.option("--preset", "recipe", type=_RECIPES, help="With --from: the recipe.  [default: medium]")
@click.option("--seed", type=click.IntRange(0), help="With --from: the seed.  [default: 0]")
@_file
@_set
@terminal_options
def degrade(
    workspace: Path,
    source: Path | None,
    target: Path | None,
    recipe: DegradationName | None,
    seed: int | None,
    experiment: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Make degraded twins: of a workspace, or of any folder (--from FOLDER --to FOLDER)."""
    if bool(source) != bool(target):
        raise click.UsageError("--from and --to belong together")
    if source and target:
        _degrade_folder(source, target, DegradationSection(preset=recipe or "medium", seed=seed or 0))
        return
    if recipe or seed is not None:
        raise click.UsageError("--preset and --seed belong to --from; a workspace has them under 'degradation'")
    settle(workspace, experiment, None, overrides)
    made = _flow("prepare")(workspace, experiment, None, overrides)
    click.echo(f"{made.train} training pairs, {made.test} test pairs; {made.twins_made} degraded twins were made")


def _degrade_folder(source: Path, target: Path, section: DegradationSection) -> None:
    from lora_core.degradation import degrade_folder
    from lora_core.images import list_photos
    from lora_core.preparation import refuse_unreadable
    from tasks.progress import progress_bar

    photos = list_photos(source)
    with progress_bar("degrading photographs", len(photos)) as progress:
        done = degrade_folder(photos, target, section, progress=lambda count, _: progress(count))
    click.echo(f"{target}: {len(done.made)} degraded twins made, {len(done.kept)} were there already")
    refuse_unreadable(list(done.unreadable))


@cli.command()
@_round
@_experiment
def train(number: int, **where: Any) -> None:
    """Train the LoRA of one round."""
    settle(**where)
    done = _flow("train")(**where, number=number)
    for checkpoint in done["checkpoints"]:
        click.echo(f"epoch {checkpoint['epoch']}: {checkpoint['file']}")
    for sentence in done["reading"]:
        click.echo(sentence)


@cli.command()
@_round
@_experiment
def sweep(number: int, **where: Any) -> None:
    """Restore the test photographs with every checkpoint at every setting."""
    settle_round(number, **where)
    swept = _flow("sweep")(**where, number=number)
    click.echo(f"{len(swept['cells'])} cells of {len(swept['test'])} photographs")


@cli.command()
@click.argument("folders", nargs=-1, type=_PATH, metavar="[WORKSPACE | RESTORED ORIGINAL]")
@_round
@_file
@_preset
@_set
@terminal_options
def score(folders: tuple[Path, ...], number: int, overrides: tuple[str, ...], **where: Any) -> None:
    """Score a round, or any folder of restored photographs against their originals."""
    if len(folders) > 2:
        raise click.UsageError("give a workspace, or two folders: RESTORED ORIGINAL")
    if len(folders) == 2:
        _score_folders(*folders, overrides)
        return
    where |= {"workspace": folders[0] if folders else Path("."), "overrides": overrides}
    workspace, experiment = settle_round(number, **where)
    _flow("score")(**where, number=number)
    import polars as pl

    from lora_core.scoring.tables import SHOWN, best_first

    table = pl.read_parquet(workspace.study(experiment.name).round(number).table)
    _show_table(best_first(table).select(SHOWN))


def _score_folders(restored: Path, original: Path, overrides: Sequence[str]) -> None:
    section = apply_overrides(load_preset("pocket"), list(overrides)).scoring
    from lora_core.scoring import score_folders

    _show_table(score_folders(restored, original, section))


def _show_table(table: "pl.DataFrame") -> None:
    import polars as pl

    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True, float_precision=4):
        click.echo(str(table))


@cli.command(name="round")
@_round
@_experiment
@_racing
def run_round(number: int, overrides: tuple[str, ...], **where: Any) -> None:
    """One round: train, sweep, score, report."""
    workspace, experiment = settle(**where, overrides=overrides)
    result = _flow("round")(**where, number=number, changes=overrides)
    from lora_core.rounds import result_in_words

    click.echo(f"{result_in_words(result)}\nReport: {workspace.study(experiment.name).report}")


@cli.command()
@click.option("--resume", is_flag=True, help="Only go on with a study that was begun; without it, begin or go on.")
@_experiment
@_racing
def tune(resume: bool, **where: Any) -> None:
    """The loop: propose, train, sweep, score, learn; ends with one LoRA, its settings and a report."""
    workspace, experiment = settle(**where)
    if resume:
        workspace.require_begun(experiment.name)
    _flow("tuning")(**where)
    _show_verdict(workspace, experiment)


@cli.command()
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@_experiment
def report(show: bool, **where: Any) -> None:
    """Write the report of the finished rounds again."""
    settle(**where)
    path = _flow("report")(**where)
    click.echo(path)
    if show:
        webbrowser.open(path.absolute().as_uri())


@cli.command()
@click.argument("work", type=_PATH)
@click.option("--recipe", type=_PATH, metavar="FILE", help="The recipe; without it, the one WORK was begun with.")
@click.option("--preset", type=click.Choice(get_args(RecipePreset)), help="A shipped recipe instead of a file.")
@click.option("--data", type=_PATH, metavar="PATH", help="The photographs: short for --set data.path=PATH.")
@click.option("--resume", type=_PATH, metavar="BASE", help="Continue from this base or checkpoint folder.")
@_set
@terminal_options
def pretrain(data: Path | None, overrides: tuple[str, ...], **where: Any) -> None:
    """Train a base model on photographs, from scratch or continued; ends with a base and a report."""
    from lora_core.pretraining.launch import settle_recipe
    from lora_core.pretraining.work import BaseWork

    changes = (*([f"data.path={data}"] if data else []), *overrides)
    work = BaseWork(where["work"])
    settle_recipe(work, where["recipe"], where["preset"], changes, where["resume"])
    done = _flow("pretrain")(**where, overrides=changes)
    click.echo(f"Ended: {done['stopped']}.\nBase: {work.base}\nReport: {work.report}")
    click.echo(f"Next: {PROGRAM} init DIR --photos FOLDER --set base.model={shlex.quote(str(work.base))}")


cli.add_command(export)
cli.add_command(compare)
cli.add_command(judge)


@cli.command()
@click.argument("workspace", type=_PATH, default=Path("demo"))
@_set
@terminal_options
def demo(workspace: Path, overrides: tuple[str, ...]) -> None:
    """The whole loop on shipped photographs: two rounds within minutes, no GPU, no download."""
    _flow("demo")(workspace, overrides)
    _show_verdict(*settle(workspace))


@cli.command()
@click.argument("workspace", type=_PATH, required=False)
@click.option("--download-lpips", is_flag=True, help="Fetch the weights of the LPIPS score (233 MB), once.")
@click.option(
    "--download-weights", multiple=True, metavar="NAME", help="Fetch weights that scoring.metrics needs, e.g. vgg16."
)
@terminal_options
def doctor(workspace: Path | None, download_lpips: bool, download_weights: tuple[str, ...]) -> None:
    """Check the installation, and a workspace if one is named."""
    from lora_core.doctor import examine

    for name in ("alexnet",) * download_lpips + download_weights:
        from lora_core.metrics.downloads import download

        click.echo(download(name))
    checks = examine(workspace, _server_address())
    for check in checks:
        click.secho(f"{check.status:4} ", fg={"ok": "green", "warn": "yellow", "fail": "red"}[check.status], nl=False)
        click.echo(check.line)
    if any(check.status == "fail" for check in checks):
        click.get_current_context().exit(1)


def _server_address() -> str | None:
    """The configured Prefect server; where Prefect does not even load, what the environment says."""
    try:
        from prefect.settings import get_current_settings

        return get_current_settings().api.url
    except Exception:  # the examination must speak in a broken installation
        return os.environ.get("PREFECT_API_URL")


def _show_verdict(workspace: Workspace, experiment: Experiment) -> None:
    """The headline of the report, in words."""
    from lora_core.report.data import load_rounds, load_study
    from lora_core.report.summary import summarise
    from lora_core.rounds import result_in_words

    study = workspace.study(experiment.name)
    rounds = load_rounds(study)
    if rounds and all(one.pruned for one in rounds):  # an end like another, but without a champion
        click.echo(f"\n{result_in_words(rounds[-1].result)}\nReport: {study.report}")
        return
    summary = summarise(load_study(workspace, experiment))
    click.echo("\n" + " ".join([summary.title, *summary.sentences]))
    click.echo(f"Champion: {workspace.champion}\nReport: {study.report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: instead of the process's own.

    Returns:
        The exit code: 0, 2 for a mistake, 3 for missing disk or memory, 4 for a training that failed, 130 interrupted.
    """
    terminal = Terminal()
    try:
        outcome = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False, obj=terminal)
    except (Exception, KeyboardInterrupt) as error:
        return terminal.explain(error)
    return outcome if isinstance(outcome, int) else 0


if __name__ == "__main__":
    sys.exit(main())
