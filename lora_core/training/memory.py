"""Batches that fit: tried before training, and once more should memory run out on the way.

The effective batch, and with it the run's result, stays what the experiment says; only its split changes.
"""

import logging
from collections.abc import Callable

import torch

from lora_core.errors import ResourceError

LOG = logging.getLogger(__name__)


def candidates(batch: int, accumulation: int, *, larger: bool) -> list[int]:
    """Sizes that divide the images of a process and update, largest first: up to all of them, or up to `batch`."""
    total = batch * accumulation
    return [size for size in range(total if larger else batch, 0, -1) if total % size == 0]


def largest_that_fits(sizes: list[int], attempt: Callable[[int], object]) -> int:
    """The first size whose attempt does not run out of memory.

    Args:
        attempt: a forward and backward pass of so many images, without effect on the weights.

    Raises:
        ResourceError: not even the smallest fits.
    """
    for size in sizes:
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            LOG.info("a batch of %d does not fit into memory (%s)", size, str(error).splitlines()[0])
            release()
            continue
        release()
        return size
    raise ResourceError(
        "not even one image fits into memory; set training.gradient_checkpointing=true, base.precision=bf16, "
        "base.quantise=nf4, or lower data.resolution or adapter.rank"
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or in the CPU's allocator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def release() -> None:
    """Gives the GPU's cached memory back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def used_memory(device: torch.device) -> float:
    """Peak memory of this process in MiB: the GPU's, or the resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import psutil

    return psutil.Process().memory_info().rss / 2**20
