"""A child process that writes down a variable: `python -m tests.tasks.environment FILE NAME ERROR_FILE`."""

import os
from pathlib import Path

from lora_core.process import child_main


def work(arguments: list[str]) -> None:
    Path(arguments[0]).write_text(os.environ.get(arguments[1], ""))


if __name__ == "__main__":
    child_main(work)
