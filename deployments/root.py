"""The folder under which the workspaces lie, as a worker knows it."""

from lora_core.errors import ConfigError
from lora_core.storage.places import ROOT
from tasks.root import root_folder


def enter_root() -> dict[str, str]:
    """The deployments' pull step: relative paths of a form mean folders below the worker's root.

    Raises:
        ConfigError: this worker has no root, or it is not there.
    """
    root = root_folder()
    if root is None:
        raise ConfigError(f"{ROOT} is not set where this worker runs; start it by: photo-enhancer serve FOLDER")
    if not root.is_dir():
        raise ConfigError(f"{ROOT}={root} is not a folder on this worker; mount it, or set {ROOT} to the right one")
    return {"directory": str(root)}
