"""A child process as `lora_core.process` starts one: `python -m tests.tasks.mortal COUNTER DEATHS ERROR_FILE`.

It writes a line into COUNTER; the first DEATHS times it is killed as the kernel kills, without a word. With DEATHS
below 0 it raises a mistake of the user's instead.
"""

import os
import signal
from pathlib import Path

from lora_core.errors import TrainingError
from lora_core.process import child_main


def work(arguments: list[str]) -> None:
    counter, deaths = Path(arguments[0]), int(arguments[1])
    with counter.open("a") as file:
        file.write("started\n")
    if deaths < 0:
        raise TrainingError("the loss is not finite after 40 images; lower training.learning_rate")
    if len(counter.read_text().splitlines()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    child_main(work)
