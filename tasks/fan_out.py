"""One task over all shares of a piece of work, by the runner that the experiment chooses: threads, processes or Ray."""

import importlib.util
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
from prefect import Task
from prefect.exceptions import CrashedRun
from prefect.futures import PrefectFuture, as_completed
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from lora_core.errors import ConfigError, DataError, ResourceError, TrainingError
from lora_core.process import end_children, end_with, gpu_count, on_gpus
from lora_core.sections.execution import ExecutionSection
from lora_core.share import Share, named_host
from tasks.slots import gpu_slot, has_slots

ATTEMPTS = 3
"""So often workers are started that die themselves, not only the processes that they wait for."""
_THREADS = "OMP_NUM_THREADS"
_ANSWER_SECONDS = 5.0
_END_SECONDS = 0.1
_LOCAL_RAY = {"include_dashboard": False, "object_store_memory": 100 * 2**20, "log_to_driver": False}

logger = logging.getLogger(__name__)
_ended: set[str] = set()
"""Calls whose remaining shares are not to begin any more. It is this process's own: only the shares of the runner
`threads` see it, those in other processes are killed or cancelled instead (`_end`)."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told beside the work itself.

    Attributes:
        share: its part.
        folder: the run's working directory, to which paths may be relative.
        threads: OMP_NUM_THREADS of the run, on which the last bits of a picture may depend; Ray sets another.
        slots: whether the run's server keeps GPU slots.
        call: tells calls of `fan_out` apart.
    """

    share: Share
    folder: Path
    threads: str | None
    slots: bool
    call: str

    @contextmanager
    def begun(self) -> Iterator[Share]:
        """The share, in the run's folder; errors say on which machine they happened.

        Raises:
            DataError: this machine does not have the folder.
            TrainingError: another share has failed meanwhile, and the runner is `threads`.
        """
        self._require_call()
        with named_host():
            if Path.cwd() != self.folder:
                if not self.folder.is_dir():
                    raise DataError(
                        f"there is no folder {self.folder}; every worker needs the run's folder at its path"
                    )
                os.chdir(self.folder)
            if os.environ.get(_THREADS) != self.threads:
                os.environ.pop(_THREADS, None)
                os.environ.update({_THREADS: self.threads} if self.threads else {})
            yield self.share

    @contextmanager
    def own_gpu(self) -> Iterator[None]:
        """A GPU for this share; where there is none, the run holds the machine's slot for all of its shares.

        Raises:
            TrainingError: another share has failed while this one waited for a GPU, and the runner is `threads`.
        """
        if not gpu_count():
            yield
        elif self.slots:
            with gpu_slot(still_wanted=self._require_call):
                yield
        else:
            with on_gpus([self.share.index % gpu_count()]):
                yield

    def _require_call(self) -> None:
        """Raises TrainingError where another share of the call has failed in this process (`_ended`)."""
        if self.call in _ended:
            raise TrainingError(f"part {self.share} was not begun, because another one failed")


def fan_out(
    task: Task[..., Any], execution: ExecutionSection, parameters: dict[str, Any], gpu: bool = False
) -> list[Any]:
    """Runs a task for each share at once and waits for all of them.

    The first error ends the other shares; what they have made stays. Workers that die are started again.

    Args:
        task: takes `parameters` and its `assignment`.
        execution: who works, and in how many parts.
        parameters: of each run of the task.
        gpu: whether each share uses a GPU where there is one.

    Returns:
        The results, in the order of the shares.

    Raises:
        ConfigError, ResourceError: there is no such runner (`require_runner`), or its workers die again and again.
        UserError, ProcessDied: what a share raised.
    """
    require_runner(execution)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with ExitStack() as held:
                if gpu and execution.runner != "ray" and not gpu_count():
                    held.enter_context(gpu_slot())
                return _attempt(task, execution, parameters, gpu)
        except (BrokenProcessPool, CrashedRun) as error:
            logger.warning("Workers of '%s' died (%s); attempt %d of %d", task.name, error, attempt, ATTEMPTS)
    raise ResourceError(
        f"the workers of '{task.name}' died {ATTEMPTS} times; look at the machine's memory, or set execution.workers=1"
    )


def require_runner(execution: ExecutionSection) -> None:
    """Refuses a runner that is not here.

    Raises:
        ConfigError: Ray is not installed.
        ResourceError: its address does not answer.
    """
    if execution.runner != "ray":
        return
    if importlib.util.find_spec("prefect_ray") is None:
        raise ConfigError("execution.runner=ray needs a package: pip install 'photo-enhancer[ray]'; or use processes")
    if execution.address and execution.address != "auto":
        parts = urlsplit(execution.address if "://" in execution.address else f"//{execution.address}")
        try:
            socket.create_connection((parts.hostname or "", parts.port or 10001), _ANSWER_SECONDS).close()
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"execution.address: no Ray answers at {execution.address} ({error}); start one there with "
                "ray start --head, or leave the address empty"
            ) from error


def _attempt(task: Task[..., Any], execution: ExecutionSection, parameters: dict[str, Any], gpu: bool) -> list[Any]:
    call, count = uuid4().hex, execution.workers
    slots = has_slots()
    assignments = [
        Assignment(Share(index, count), Path.cwd(), os.environ.get(_THREADS), slots, call) for index in range(count)
    ]
    if os.name == "posix":
        resource_tracker.ensure_running()  # it serves all pools of this process, and is not to be ended with one
    before = _descendants()
    with _server_known_to_workers(), _runner(execution, gpu) as runner, _options(execution, gpu):
        futures = [runner.submit(task, {**parameters, "assignment": one}) for one in assignments]
        try:
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            _ended.add(call)
            _end(execution, futures, before)
            raise


def _runner(execution: ExecutionSection, gpu: bool) -> TaskRunner[Any]:
    if execution.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=execution.workers)
    if execution.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=execution.workers, initializer=end_with, initargs=(os.getpid(),))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    options: dict[str, Any] = {"logging_level": logging.WARNING}
    if gpu and (execution.address or gpu_count()):  # the slots choose among all GPUs of a host: Ray only counts them
        options["runtime_env"] = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}
    if not execution.address:
        options |= {**_LOCAL_RAY, "num_cpus": execution.workers}
    return RayTaskRunner(address=execution.address, init_kwargs=options)


@contextmanager
def _options(execution: ExecutionSection, gpu: bool) -> Iterator[None]:
    """Tells Ray what each share needs."""
    if execution.runner != "ray":
        yield
        return
    import ray
    from prefect_ray.context import remote_options

    with remote_options(num_cpus=1, num_gpus=1 if gpu and ray.cluster_resources().get("GPU") else 0):
        yield


def _end(execution: ExecutionSection, futures: Sequence[PrefectFuture[Any]], before: set[psutil.Process]) -> None:
    """Ends the shares that are under way, with their processes."""
    if execution.runner == "threads":
        # One that is not done may be about to start its process.
        while not all(future.wrapped_future.done() for future in futures):  # type: ignore[attr-defined]
            end_children()
            time.sleep(_END_SECONDS)
    elif execution.runner == "processes":
        for process in _descendants() - before:
            with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                process.kill()
    else:
        import ray

        for future in futures:
            ray.cancel(future.wrapped_future, force=True)  # type: ignore[attr-defined]


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@contextmanager
def _server_known_to_workers() -> Iterator[None]:
    """The temporary server of a single command has no address in the settings, which are all that workers are given."""
    if get_current_settings().api.url is not None:
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    with temporary_settings({PREFECT_API_URL: server.api_url} if server.running else {}):
        yield
