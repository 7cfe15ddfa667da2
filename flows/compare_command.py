"""`photo-enhancer compare` and `judge`: which restoration people prefer, without knowing whose it is."""

import shlex
import webbrowser
from pathlib import Path

import click

from flows.console import PROGRAM, terminal_options
from flows.options import PATH, PLACE, experiment_file, workspace_argument
from flows.parameters import Place, settle


@click.command()
@workspace_argument
@click.option(
    "--against",
    metavar="WHAT",
    default="input",
    show_default=True,
    help="base, input, classical, or round:N: what the best LoRA is compared with.",
)
@click.option("--photos", type=click.IntRange(1), default=20, show_default=True, help="Test photographs at most.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@experiment_file
@terminal_options
def compare(workspace: Place, against: str, photos: int, show: bool, experiment: Path | None) -> None:
    """Make a blind comparison: a page on which people choose the better of two restorations."""
    from lora_core.comparison.page import write_comparison

    place, plan = settle(workspace, experiment, only_reads=True)
    made = write_comparison(place, plan, against, photos)
    click.echo(f"{made.photos} photographs: the winner of round {made.round} against {made.rival}")
    click.echo(f"Page: {made.path}\nIt needs no network; to send it to others, send its whole folder.")
    click.echo(f"Next: open it, choose, download, then: {PROGRAM} judge {shlex.quote(str(workspace))} CHOICES.json")
    if show:
        webbrowser.open(made.path.absolute().as_uri())


@click.command()
@click.argument("workspace", type=PLACE)
@click.argument("choices", type=PATH, nargs=-1, required=True, metavar="CHOICES.json...")
@experiment_file
@terminal_options
def judge(workspace: Place, choices: tuple[Path, ...], experiment: Path | None) -> None:
    """Fold the choices of blind comparisons into the study, and write its report again."""
    from lora_core.comparison.choices import fold_choices
    from lora_core.judging import human_scores, read_judgements
    from lora_core.report import write_report
    from lora_core.report.words import counted, preference

    place, plan = settle(workspace, experiment)
    winners = {}
    for path in choices:
        judgement, new = fold_choices(place, plan, path)
        winners[judgement.winner] = judgement.round
        done = f"{len(judgement.outcomes)} of {counted(judgement.asked, 'comparison')}"
        click.echo(f"{path}: {done}" + ("" if new else "; known already, counted once"))
    everything = read_judgements(place.study(plan.name))
    for winner, number in winners.items():
        for score in human_scores(everything, winner):
            click.echo(f"Round {number}: {preference(score)}")
    click.echo(f"Report: {write_report(place, plan)}")
