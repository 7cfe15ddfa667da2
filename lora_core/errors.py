"""Errors that a user can act on: one line that names the file, key or value, and the way out.

The command line prints the message alone and exits with `exit_code`; the traceback is shown with `--debug`.
Everything else that is raised is a defect of ours and keeps its traceback.
"""

from lora_core.secrets import masked


class UserError(Exception):
    """A mistake or a limit outside the program; `str(error)` is the whole message, without passwords."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


class ConfigError(UserError):
    """The experiment is not valid: an unknown key, a value out of range, a contradiction."""


class NothingLeft(ConfigError):
    """Every round that could be proposed was tried."""


class DataError(UserError):
    """Photographs or pairs that cannot be used."""


class BaseModelError(UserError):
    """A base model that is missing, is no base model, or changed under a run."""


class ResourceError(UserError):
    """Disk, memory or permission is missing."""

    exit_code = 3


class TrainingError(UserError):
    """A training run that cannot go on: a loss that is not finite, a process that died."""

    exit_code = 4


class LossError(TrainingError):
    """A loss that is no number any more: a loop over rounds gives the round up, any other command ends."""
