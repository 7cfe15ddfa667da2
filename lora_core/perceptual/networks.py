"""What the perceptual networks share: tensors of pictures, the device, convolutions at full precision."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lora_core.perceptual.weights import Weights, not_these

if TYPE_CHECKING:
    import torch

_one_at_a_time = threading.Lock()  # torch uses all cores for one batch


def device() -> "torch.device":
    """Where networks run: the GPU, if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_tensor(pictures: np.ndarray) -> "torch.Tensor":
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in 0..1, on the networks' device."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).to(device())
    return tensor.permute(0, 3, 1, 2).contiguous().float() / 255


@contextmanager
def inference() -> Iterator[None]:
    """One batch at a time, without gradients; no TF32, whose ten bits of mantissa show in the third decimal."""
    import torch

    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with _one_at_a_time, torch.inference_mode(), exact:
        yield


def read_state(weights: Weights) -> "dict[str, torch.Tensor]":
    """The tensors of a file, by name. Raises ConfigError where it holds none."""
    import torch

    try:
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
        return {name: state[name] for name in state if isinstance(state[name], torch.Tensor)}
    except Exception as error:  # torch.load has no base class for what a broken file makes it raise
        raise not_these(weights, error) from error
