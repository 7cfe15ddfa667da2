"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from flows.console import terminal_options
from lora_core.experiment import PresetName
from lora_core.promotion import Promotion
from lora_core.storage import is_url

PATH = click.Path(path_type=Path)


class PlaceType(click.Path):
    """A folder as a `Path`, an address such as s3://bucket/work as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click asks for it."""
        return value if is_url(value) else super().convert(value, param, ctx)


PLACE = PlaceType(path_type=Path)
PRESETS = click.Choice(get_args(PresetName))

workspace_argument = click.argument("workspace", type=PLACE, default=Path("."))
experiment_file = click.option(
    "--experiment", type=PATH, metavar="FILE", help="Instead of the workspace's experiment.yaml."
)
preset_option = click.option("--preset", type=PRESETS, help="A shipped experiment instead of a file.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting: training.epochs=8; repeatable."
)


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the workspace and what says which experiment runs there."""
    return workspace_argument(experiment_file(preset_option(set_option(terminal_options(command)))))


def promote_option(default: Promotion) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --promote."""
    return click.option(
        "--promote",
        "promotion",
        type=click.Choice(get_args(Promotion)),
        default=default,
        show_default=True,
        help="When the best LoRA becomes the champion: at once; only when it beats the present one with significance; "
        "or when a person says so.",
    )
