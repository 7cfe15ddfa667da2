"""The command line with everything: the commands of `flows.cli`, and those that need deployments."""

import sys
from collections.abc import Sequence

from deployments.doctor_command import doctor
from deployments.promotion_commands import promote, retrain, rollback
from deployments.serve_command import serve
from flows.cli import cli
from flows.cli import main as run

for _command in (serve, doctor, promote, rollback, retrain):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; see `flows.cli.main`."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
