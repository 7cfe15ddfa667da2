"""Jinja as all our pages want it: everything escaped, nothing undefined, words and numbers as a person reads them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lora_core.report.words import counted, number, percent, plain, signed


def environment(*folders: Path) -> Environment:
    """Templates of these folders; the first that has a name wins."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(number=number, signed=signed, plain=plain, counted=counted, percent=percent)
    return made
