"""The command line with everything: the commands of `flows.cli`, and those that need deployments."""

import sys

from deployments.doctor_command import doctor
from deployments.promotion_commands import promote, retrain, rollback
from deployments.serve_command import serve
from flows.cli import cli, main

for _command in (serve, doctor, promote, rollback, retrain):
    cli.add_command(_command)


__all__ = ["cli", "main"]

if __name__ == "__main__":
    sys.exit(main())
