"""Many small parameters as one: an update costs one pass over one tensor, not hundreds of small ones.

The parameters become views of one buffer, and so do their gradients, which autograd adds to in place. So gradients must
be set to zero, never to None, and a parameter's `data` or `grad` must be written into, never replaced. It fits
optimisers that treat every number by itself (AdamW); the numbers are the same.
"""

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def flatten(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One parameter with the values of all, which are its views from now on, gradients included.

    Args:
        parameters: of one type and device, at least one.
    """
    values = torch.cat([parameter.detach().flatten() for parameter in parameters])
    whole = nn.Parameter(values)
    whole.grad = torch.zeros_like(values)
    first = 0
    for parameter in parameters:
        last = first + parameter.numel()
        parameter.data = whole.data[first:last].view(parameter.shape)
        parameter.grad = whole.grad[first:last].view(parameter.shape)
        first = last
    return whole
