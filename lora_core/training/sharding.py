"""Several processes: the LoRA whole on each, its gradients averaged after the last batch of an update.

The LoRA is small, so one message after the backward pass does, and its files and states are written as they always are,
by one process. A base too large for one GPU can be in shards: its frozen weights are gathered block by block when they
are needed (FSDP2).
"""

from collections.abc import Sequence

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def shard(unet: nn.Module, trained: Sequence[nn.Parameter], device: torch.device) -> None:
    """Shards the frozen weights of a UNet in place, over all processes."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    kept = set(trained)
    unet.to(memory_format=torch.contiguous_format)  # FSDP2 takes no channels_last
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]  # type: ignore[misc]
    for module in (*blocks, unet):
        fully_shard(module, mesh=mesh, ignored_params=kept)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Puts the mean of all processes' gradients in their place, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for gradient, mean in zip(gradients, together.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
