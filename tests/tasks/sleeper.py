"""A child process that tells its number and stays: `python -m tests.tasks.sleeper PID_FILE ERROR_FILE`."""

import os
import time
from pathlib import Path

from lora_core.files import write_text
from lora_core.process import child_main


def work(arguments: list[str]) -> None:
    write_text(Path(arguments[0]), str(os.getpid()))
    time.sleep(600)


if __name__ == "__main__":
    child_main(work)
