"""PHOTO_ENHANCER_ROOT, the folder below which a served worker's workspaces, experiment files and recipes lie.

What a form says becomes a path, so a worker that serves others writes below its root alone; the command line has none.
What is only read, photographs to copy, bases and weights, may lie elsewhere.
"""

import os
from pathlib import Path

from lora_core.errors import ConfigError
from lora_core.storage.places import ROOT


def root_folder() -> Path | None:
    """The root, links resolved; None where none is set."""
    named = os.environ.get(ROOT)
    return Path(named).resolve() if named else None


def require_inside(path: Path, what: str = "workspace") -> None:
    """Refuses a folder outside of the root, whether by `..`, as an absolute path or through a link.

    Args:
        path: the folder; need not exist.
        what: it is to be, for the message.

    Raises:
        ConfigError: it lies elsewhere.
    """
    root = root_folder()
    if root is not None and not path.resolve().is_relative_to(root):
        raise ConfigError(f"{what} {path} lies outside of {root}; name a folder below it, for example {what}=work")
