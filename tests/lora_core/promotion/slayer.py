"""Promotes without end in a process that is killed again and again: python slayer.py WORKSPACE KILLS SEED."""

import hashlib
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

from lora_core.files import write_json
from lora_core.promotion.versions import SETTINGS_FILE, all_versions, install
from lora_core.workspace import Workspace


def promote(workspace: Workspace, number: int) -> None:
    weights = number.to_bytes(4, "big") * 50_000
    digest = hashlib.sha256(weights).hexdigest()

    def write(folder: Path) -> None:
        (folder / "lora.safetensors").write_bytes(weights)
        write_json(folder / SETTINGS_FILE, {"digest": digest})

    install(workspace, digest, write, "the test", "")


if __name__ == "__main__":
    workspace, draw = Workspace(Path(sys.argv[1])), random.Random(int(sys.argv[3]))
    promote(workspace, 0)
    for _ in range(int(sys.argv[2])):
        if (child := os.fork()) == 0:
            for number in itertools.count(len(all_versions(workspace.champions))):
                promote(workspace, number)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
