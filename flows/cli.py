"""The command line. Neither torch nor Prefect is imported before a command runs, so that help answers at once."""

import functools
import shlex
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flows.compare_command import compare, judge
from flows.console import PROGRAM, Terminal, terminal_options
from flows.doctor_command import doctor
from flows.export_command import export
from flows.options import (
    PATH,
    PLACE,
    PRESETS,
    experiment_file,
    experiment_options,
    preset_option,
    promote_option,
    set_option,
    workspace_argument,
)
from flows.parameters import Place, enter, settle, settle_round
from flows.server import flow_with_server as _flow
from lora_core import __version__
from lora_core.experiment import (
    DegradationName,
    DegradationSection,
    Experiment,
    apply_overrides,
    load_preset,
)
from lora_core.pretraining.recipe import RecipePreset
from lora_core.promotion import Promotion
from lora_core.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

Command = Callable[..., Any]
_RECIPES = click.Choice([name for name in get_args(DegradationName) if name != "own"])


_round = click.option(
    "--round", "number", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="The round, from 0."
)


def _racing(command: Command) -> Command:
    """Adds --exhaustive, another way to write --set sweep.race=false."""

    @functools.wraps(command)
    def told(exhaustive: bool, overrides: tuple[str, ...], **options: Any) -> None:
        command(overrides=(*overrides, "sweep.race=false") if exhaustive else overrides, **options)

    return click.option("--exhaustive", is_flag=True, help="No race: every setting restores every test photograph.")(
        told
    )


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
@click.argument("workspace", type=PLACE)
@click.option("--photos", type=PATH, metavar="FOLDER", help="Clean photographs to copy into the workspace.")
@click.option("--test", type=PATH, metavar="FOLDER", help="Clean photographs to score on, instead of a hold-out.")
@click.option("--hold-out", type=float, default=0.1, show_default=True, help="Share of --photos that is scored on.")
@click.option("--preset", type=PRESETS, default="pocket", show_default=True, help="The experiment to start from.")
@set_option
@terminal_options
def init(
    workspace: Place, photos: Path | None, test: Path | None, hold_out: float, preset: str, overrides: tuple[str, ...]
) -> None:
    """Make a workspace: folders, photographs, experiment.yaml."""
    from lora_core.preparation import create_workspace

    created = create_workspace(enter(workspace).root, preset, photos, test, hold_out, overrides)
    for bad in created.unreadable:
        click.echo(f"warning: left out, cannot be read: {bad.path}: {bad.reason}", err=True)
    click.echo(f"{workspace}: {created.train} photographs to train on, {created.test} to score on")
    if not created.train:
        click.echo(f"Put clean photographs into {created.workspace.targets}, others into {created.workspace.test}")
    click.echo(f"Settings: {created.workspace.experiment}\nNext: {PROGRAM} tune {shlex.quote(str(workspace))}")


@cli.command()
@workspace_argument
@click.option("--from", "source", type=PATH, metavar="FOLDER", help="Degrade this folder, without a workspace.")
@click.option("--to", "target", type=PATH, metavar="FOLDER", help="Where its degraded twins go.")
@click.option("--preset", "recipe", type=_RECIPES, help="With --from: the recipe.  [default: medium]")
@click.option("--seed", type=click.IntRange(0), help="With --from: the seed.  [default: 0]")
@experiment_file
@set_option
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
@experiment_options
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
@experiment_options
def sweep(number: int, **where: Any) -> None:
    """Restore the test photographs with every checkpoint at every setting."""
    settle_round(number, **where)
    swept = _flow("sweep")(**where, number=number)
    click.echo(f"{len(swept['cells'])} cells of {len(swept['test'])} photographs")


@cli.command()
@click.argument("folders", nargs=-1, type=PLACE, metavar="[WORKSPACE | RESTORED ORIGINAL]")
@_round
@experiment_file
@preset_option
@set_option
@terminal_options
def score(folders: tuple[Any, ...], number: int, overrides: tuple[str, ...], **where: Any) -> None:
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
@experiment_options
@_racing
def run_round(number: int, overrides: tuple[str, ...], **where: Any) -> None:
    """One round: train, sweep, score, report."""
    workspace, experiment = settle(**where, overrides=overrides)
    result = _flow("round")(**where, number=number, changes=overrides)
    from lora_core.rounds import result_in_words

    click.echo(f"{result_in_words(result)}\nReport: {workspace.study(experiment.name).report}")


@cli.command()
@click.option("--resume", is_flag=True, help="Only go on with a study that was begun; without it, begin or go on.")
@promote_option("best")
@experiment_options
@_racing
def tune(resume: bool, promotion: Promotion, **where: Any) -> None:
    """The loop: propose, train, sweep, score, learn; ends with one LoRA, its settings and a report."""
    workspace, experiment = settle(**where)
    if resume:
        workspace.require_begun(experiment.name)
    _flow("tuning")(**where, promotion=promotion)
    _show_verdict(workspace, experiment)


@cli.command()
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@experiment_options
def report(show: bool, **where: Any) -> None:
    """Write the report of the finished rounds again."""
    settle(**where, only_reads=True)
    path = _flow("report")(**where)
    click.echo(path)
    if show:
        webbrowser.open(path.absolute().as_uri())


@cli.command()
@click.argument("work", type=PATH)
@click.option("--recipe", type=PATH, metavar="FILE", help="The recipe; without it, the one WORK was begun with.")
@click.option("--preset", type=click.Choice(get_args(RecipePreset)), help="A shipped recipe instead of a file.")
@click.option("--data", type=PATH, metavar="PATH", help="The photographs: short for --set data.path=PATH.")
@click.option("--resume", type=PATH, metavar="BASE", help="Continue from this base or checkpoint folder.")
@set_option
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
cli.add_command(doctor)


@cli.command()
@click.argument("workspace", type=PATH, default=Path("demo"))
@set_option
@terminal_options
def demo(workspace: Path, overrides: tuple[str, ...]) -> None:
    """The whole loop on shipped photographs: two rounds within minutes, no GPU, no download."""
    _flow("demo")(workspace, overrides)
    _show_verdict(*settle(workspace))


def _show_verdict(workspace: Workspace, experiment: Experiment) -> None:
    """The headline of the report, in words."""
    from lora_core.promotion.versions import present_champion
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
    if (champion := present_champion(workspace)) is not None:
        click.echo(f"Champion: {champion.lora}")
    click.echo(f"Report: {study.report}")


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
