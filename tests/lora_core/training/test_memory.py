"""The largest batch that fits is found by trying; what is no lack of memory is not taken for one."""

import pytest
import torch

from lora_core.errors import ResourceError
from lora_core.training.memory import candidates, largest_that_fits, out_of_memory


def attempt(limit, tried, error=torch.OutOfMemoryError):
    def run(size):
        tried.append(size)
        if size > limit:
            raise error("CUDA out of memory. Tried to allocate 2 GiB")

    return run


def test_sizes_divide_the_effective_batch():
    assert candidates(8, 3, larger=True) == [24, 12, 8, 6, 4, 3, 2, 1]
    assert candidates(8, 3, larger=False) == [8, 6, 4, 3, 2, 1]


@pytest.mark.parametrize(("limit", "expected", "count"), [(100, 24, 1), (7, 6, 4), (1, 1, 8)])
def test_the_first_that_fits_is_taken(limit, expected, count):
    tried = []
    assert largest_that_fits(candidates(8, 3, larger=True), attempt(limit, tried)) == expected
    assert len(tried) == count


def test_one_image_that_does_not_fit_is_an_error_with_ways_out():
    with pytest.raises(ResourceError, match=r"gradient_checkpointing.*nf4"):
        largest_that_fits([2, 1], attempt(0, []))


def test_other_errors_come_through():
    with pytest.raises(RuntimeError, match="shapes"):
        largest_that_fits([2, 1], lambda size: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
