"""The folder below which a served worker's workspaces lie, PHOTO_ENHANCER_ROOT, and nothing outside of it.

What a form says becomes a path, so a worker that serves others keeps to its root; the command line has none.
"""

import os
from pathlib import Path

from lora_core.errors import ConfigError

ROOT = "PHOTO_ENHANCER_ROOT"


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
