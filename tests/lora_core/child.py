"""A child for `test_process`: `python -m tests.lora_core.child WHAT PID_FILE ERROR_FILE`."""

import os
import time
from pathlib import Path

from lora_core.process import child_main


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which needs a GPU to be raised in earnest."""


def work(arguments: list[str]) -> None:
    what, pid_file = arguments
    Path(pid_file).write_text(str(os.getpid()))
    if what == "out of memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nsecond line")
    if what == "defect":
        raise RuntimeError("a shape does not fit")
    if what == "sleep":
        time.sleep(120)


if __name__ == "__main__":
    child_main(work)
