"""A child process that tells its number and stays: `python -m tests.tasks.sleeper PID_FILE ERROR_FILE`.

Where nobody ends it, it leaves a file `woke` beside its number.
"""

import os
import time
from pathlib import Path

from lora_core.files import write_text
from lora_core.process import child_main

SECONDS = 30


def work(arguments: list[str]) -> None:
    told = Path(arguments[0])
    write_text(told, str(os.getpid()))
    time.sleep(SECONDS)
    told.with_name("woke").touch()


if __name__ == "__main__":
    child_main(work)
