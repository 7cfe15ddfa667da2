"""The folder under which the workspaces lie, as a worker knows it."""

import os
from pathlib import Path

from lora_core.errors import ConfigError
from tasks.root import ROOT


def enter_root() -> dict[str, str]:
    """The deployments' pull step: relative paths of a form mean folders below the worker's root.

    Raises:
        ConfigError: this worker has no root, or it is not there.
    """
    root = os.environ.get(ROOT)
    if not root:
        raise ConfigError(f"{ROOT} is not set where this worker runs; start it by: photo-enhancer serve FOLDER")
    if not Path(root).is_dir():
        raise ConfigError(f"{ROOT}={root} is not a folder on this worker; mount it, or set {ROOT} to the right one")
    return {"directory": str(Path(root).absolute())}
