"""`photo-enhancer promote`, `rollback` and `retrain`: who is the champion. No torch and no Prefect before they run."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from flows.console import PROGRAM, terminal_options
from flows.options import experiment_options, promote_option, workspace_argument
from flows.parameters import enter, settle
from flows.server import flow_with_server
from lora_core.experiment import Experiment
from lora_core.promotion import Promotion
from lora_core.promotion.again import settings_of_next_try
from lora_core.promotion.command import command_line
from lora_core.promotion.decisions import Choice, Decision, remember
from lora_core.storage import mirror_of
from lora_core.workspace import Workspace

_BY = f"a person, with {PROGRAM} promote"
_note = click.option("--note", default="", metavar="TEXT", help="Why; it is remembered and shown in the report.")


@click.command()
@click.option("--approve", "choice", flag_value="approve", help="It becomes the champion.")
@click.option("--reject", "choice", flag_value="reject", help="The champion stays.")
@click.option(
    "--again",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="The champion stays, and another try gets this change: training.epochs=30; repeatable.",
)
@_note
@experiment_options
def promote(choice: Choice | None, changes: tuple[str, ...], note: str, **where: Any) -> None:
    """Show the best LoRA beside the champion, and decide which it is to be."""
    from lora_core.promotion.standing import require_standing
    from lora_core.promotion.telling import plain

    if changes and choice:
        raise click.UsageError(f"--again and --{choice} exclude each other")
    place, plan = settle(**where)
    standing = require_standing(place, plan)
    settings = settings_of_next_try(place, plan, changes) if changes else ()
    title = f"Round {standing.candidate.round} of {plan.name}"
    click.echo(f"{title}\n\n{plain(standing)}\n\nReport: {place.study(plan.name).report}")
    if standing.is_champion and choice == "reject":
        undo = shlex.join([PROGRAM, "rollback", str(where["workspace"])])
        raise click.UsageError(f"{title} is the champion already; bring back the one before it with: {undo}")
    if standing.is_champion and not changes:
        click.echo(f"{title} is the champion: {_lora(place)}")
        return
    if not (changes or choice):
        choice, changes, note = _asked(where["workspace"], note)
        settings = settings_of_next_try(place, plan, changes) if choice == "try again" else ()
    decision = replace(standing.decision(choice or "try again", _BY, note), overrides=settings)
    _carry_out(place, plan, remember(place.study(plan.name), decision), where)


@click.command()
@workspace_argument
@click.option("--to", "wanted", metavar="VERSION", help="Its number or name; without it, the champion before this one.")
@click.option("--list", "only_list", is_flag=True, help="Only list the versions.")
@_note
@terminal_options
def rollback(workspace: Path, wanted: str | None, only_list: bool, note: str) -> None:
    """Make an earlier champion the champion again."""
    from lora_core.promotion.versions import roll_back

    place = enter(workspace, only_reads=only_list)
    if not only_list:
        version = roll_back(place, wanted, f"{PROGRAM} rollback", note)
        _publish(place)
        click.echo(f"{version.name} is the champion again: {version.lora}")
    _list_versions(place)


@click.command()
@promote_option("significant")
@click.option("--always", is_flag=True, help="Also where the photographs are the same, with another seed.")
@click.option(
    "--quiet-minutes",
    type=click.FloatRange(0),
    default=10,
    show_default=True,
    help="Wait for the next time where a photograph changed less than so long ago.",
)
@experiment_options
def retrain(always: bool, quiet_minutes: float, promotion: Promotion, **where: Any) -> None:
    """Tune anew where the photographs changed; the winner becomes the champion if it beats it."""
    place, _ = settle(**where)
    when = "always" if always else "photographs changed"
    done = flow_with_server("retrain")(**where, promotion=promotion, when=when, quiet_minutes=quiet_minutes)
    if done["study"]:
        click.echo(f"Report: {place.study(done['study']).report}")
    click.echo(f"Champion: {_lora(place)}")


def _asked(workspace: Path, note: str) -> tuple[Choice, tuple[str, ...], str]:
    """Choice, changes and note from the terminal."""
    if not _at_a_terminal():
        raise click.UsageError(
            f"no terminal to ask at; say it: {PROGRAM} promote {shlex.quote(str(workspace))} --approve, --reject or "
            "--again KEY=VALUE"
        )
    choice: Choice = click.prompt("Decision", type=click.Choice(get_args(Choice)))
    again = choice == "try again"
    what = "What to change, e.g. training.epochs=30 (several with spaces)"
    changes: tuple[str, ...] = click.prompt(what, value_proc=_words) if again else ()
    note = note or click.prompt("Note", default="", show_default=False)
    return choice, changes, note


def _words(typed: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(typed))
    except ValueError as error:
        raise click.BadParameter(f"{typed}: {error}") from error


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _carry_out(place: Workspace, plan: Experiment, decision: Decision, where: dict[str, Any]) -> None:
    from lora_core.promotion.carrying import approve, hand_on
    from lora_core.report import write_report

    if decision.choice == "approve":
        click.echo(f"The champion now: {approve(place, plan, decision).lora}")
    elif decision.choice == "reject":
        click.echo("Rejected; the champion stays.")
    else:
        hand_on(place, plan, decision)
        following = {**where, "overrides": (*where["overrides"], *decision.overrides)}
        click.echo(f"Next: {command_line('tune', following, '--promote', 'ask')}")
    write_report(place, plan)
    _publish(place)


def _publish(place: Workspace) -> None:
    """To the bucket that the workspace lies in, where it does."""
    if (mirror := mirror_of(place.root)) is not None:
        mirror.push()


def _list_versions(place: Workspace) -> None:
    from lora_core.promotion.versions import all_versions, present_champion

    present = present_champion(place)
    if present is None:
        click.echo(f"{place.champions} holds no champion yet")
    for version in all_versions(place.champions):
        settings = version.settings
        mark = "*" if present is not None and version.name == present.name else " "
        click.echo(
            f"{mark} {version.name}  {settings['composite']:+.2f} points  "
            f"{settings['name']}, round {settings['round']}  {version.promoted['when']}  {version.promoted['by']}"
        )


def _lora(place: Workspace) -> Path | str:
    from lora_core.promotion.versions import present_champion

    champion = present_champion(place)
    return champion.lora if champion is not None else "none yet"
