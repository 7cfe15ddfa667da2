"""Work in a process of its own: a crash or an out-of-memory kill costs one attempt, and the GPU's memory comes back.

The child writes a `UserError` to a file and the parent raises it again; a child that dies otherwise becomes a
`ProcessDied` that says how. A child whose parent is gone ends itself, so that an orphan never writes beside a new
attempt.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NoReturn

import psutil
from filelock import FileLock, Timeout

from lora_core import errors
from lora_core.errors import ResourceError, TrainingError, UserError
from lora_core.files import write_json
from lora_core.progress import told_in

_LESS_MEMORY = (
    "set training.gradient_checkpointing=true or base.quantise=nf4, or lower training.batch (and raise "
    "training.accumulation), sweep.batch or data.resolution"
)

_WAITING = {
    # OpenMP's threads spin for a moment, then sleep. Asleep at once, they make a training step at batch 1 a third
    # longer; spinning on, their own default, they are hardly quicker, and half as quick beside another busy process
    # (tests/benchmarks/training_speed.txt).
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",  # of GNU's OpenMP, which then wins over the policy
}
_MEMORY = {
    # glibc gives large blocks back at once; fetched anew they cost a page fault each 4 KiB, on a CPU a tenth of a step.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
}
_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Of the drivers of what torch calls CUDA devices: NVIDIA's, Windows' below WSL, AMD's."""
_gpus: ContextVar[tuple[int, ...]] = ContextVar("gpus", default=())
_running: dict[subprocess.Popen[bytes], bool] = {}  # and whether `end_children` ended it


@cache
def gpu_count() -> int:
    """How many CUDA devices this process may use; torch, whose import takes seconds, is asked only beside a driver."""
    if not (shutil.which("nvidia-smi") or any(Path(device).exists() for device in _DEVICES)):
        return 0
    import torch

    return torch.cuda.device_count()


@contextmanager
def on_gpus(indices: Sequence[int]) -> Iterator[None]:
    """Processes started within the block see these of this process' GPUs alone; none named: all of them."""
    token = _gpus.set(tuple(indices))
    try:
        yield
    finally:
        _gpus.reset(token)


def _visible_gpus() -> dict[str, str]:
    """What the block's choice means to CUDA, whose numbers count from all of the machine's devices."""
    if not (chosen := _gpus.get()):
        return {}
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = listed.split(",") if listed else [str(index) for index in range(max(chosen) + 1)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[index] for index in chosen)}


def child_environment() -> dict[str, str]:
    """This process' environment, with what makes torch quick on a CPU where the user did not say otherwise."""
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else _WAITING
    return {**_MEMORY, **waiting, **os.environ}


class ProcessDied(TrainingError):
    """The child ended without a message of its own: killed, out of memory, or a defect. A new attempt goes on.

    Attributes:
        progressed: whether it had saved anything that the attempt before had not.
    """

    progressed = False


def run_in_process(
    module: str,
    arguments: list[str],
    folder: Path,
    *,
    processes: int = 1,
    saved: Callable[[], object] = lambda: None,
) -> None:
    """Runs `python -m module arguments…` and waits.

    Args:
        folder: the child's error file lives here.
        processes: more than one are started by torch's launcher, whose settings accelerate reads in each.
        saved: tells what a new attempt would go on from; another answer after the child's death is progress.

    Raises:
        UserError: what the child raised.
        ProcessDied: the child died otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    error_file = folder / "error.json"
    error_file.unlink(missing_ok=True)
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    environment = {**child_environment(), **_visible_gpus(), "PHOTO_ENHANCER_PARENT": str(os.getpid())}
    before = saved()
    child = subprocess.Popen([*command, module, *arguments, str(error_file)], env=environment)
    _running[child] = False
    try:
        code = child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        ended_here = _running.pop(child)
    if ended_here:
        raise TrainingError(f"{module.rsplit('.', 1)[-1]} was ended with the run that it belonged to")
    if error_file.exists():
        raise _read_error(error_file)
    if code:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = "; killed from outside or out of memory" if code in (-9, 137) else ""
        died = ProcessDied(
            f"{module.rsplit('.', 1)[-1]} ended with {reason}{hint}; the same command goes on where it stopped"
        )
        died.progressed = saved() != before
        raise died


def end_children() -> None:
    """Ends the processes that `run_in_process` waits for in other threads; they are not what a new attempt is for."""
    for child in list(_running):
        if child in _running:
            _running[child] = True
            _end(child)


def child_main(work: Callable[[list[str]], None]) -> None:
    """The main function of a child: `arguments…, error file` on the command line."""
    *arguments, error_file = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("lora_core").setLevel(os.environ.get("PHOTO_ENHANCER_LOG", "INFO"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends this process
    _end_with_parent()
    try:
        with told_in(Path(error_file).parent):
            work(arguments)
    except UserError as error:
        _leave(error, Path(error_file))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, whose import this module does without
            raise
        _leave(ResourceError(f"out of GPU memory ({str(error).splitlines()[0]}); {_LESS_MEMORY}"), Path(error_file))


def _leave(error: UserError, file: Path) -> NoReturn:
    write_json(file, {"kind": type(error).__name__, "message": str(error)})
    sys.exit(error.exit_code)


def only_one(folder: Path, timeout: float = 30) -> FileLock:
    """A lock on a folder that one process writes; released when the process ends, however it ends.

    Raises:
        ResourceError: another process holds it for longer than `timeout` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise ResourceError(f"{folder} is being written by another run; wait for it or stop it") from error
    return lock


def is_written(folder: Path) -> bool:
    """Whether a process holds the lock of `only_one` at this moment."""
    if not folder.is_dir():
        return False
    try:
        with _lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _lock(folder: Path) -> FileLock:
    return FileLock(str(folder / ".lock"))


def _end(child: subprocess.Popen) -> None:
    """Ends the child and its own children, politely, then not."""
    try:
        family = [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=5)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def _end_with_parent() -> None:
    if number := os.environ.get("PHOTO_ENHANCER_PARENT"):
        end_with(int(number))


def end_with(number: int) -> None:
    """Ends this process as soon as the process of that number is gone."""
    try:
        parent = psutil.Process(number)
    except psutil.NoSuchProcess:
        os._exit(1)

    def watch() -> None:
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _read_error(file: Path) -> UserError:
    values = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    kind = getattr(errors, values["kind"], UserError)
    return kind(values["message"])
