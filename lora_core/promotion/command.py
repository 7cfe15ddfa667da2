"""A line for the terminal that says the same as a flow's parameters."""

import shlex
from collections.abc import Mapping
from typing import Any


def command_line(verb: str, said: Mapping[str, Any], *more: str) -> str:
    """The command of a verb.

    Args:
        verb: of the command line, e.g. tune.
        said: workspace, experiment, preset and overrides, as a flow's parameters.
        more: further words.
    """
    words = ["photo-enhancer", verb, str(said["workspace"])]
    for option in ("experiment", "preset"):
        words += [f"--{option}", str(said[option])] if said.get(option) else []
    for assignment in said.get("overrides", ()):
        words += ["--set", assignment]
    return shlex.join([*words, *more])
