"""The optimisers of base training: AdamW, or Muon on the inner matrices with AdamW on the rest.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") moves a weight matrix along the
nearest orthogonal matrix of its momentum, so that all directions of a layer learn at one speed. From scratch on a few
hundred photographs it needed about two thirds of AdamW's images for the same validation loss. torch.optim.Muon
iterates in bfloat16, which a CPU without such units emulates at half the speed of the whole step, and takes no
convolutions; this one iterates in float32 on the kernel reshaped to (out, in * height * width).
"""

import torch
from torch import Tensor, nn

ADAMW_SHARE = 0.05
"""AdamW's rate beside Muon, as a share of Muon's: 1e-3 beside 2e-2."""
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by five Newton-Schulz steps, for parameters of two or more dimensions."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; no closure is taken."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                direction = parameter.grad.lerp(momentum, group["momentum"])  # Nesterov's look ahead
                matrix = orthogonal(direction.reshape(len(direction), -1))
                tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                parameter.add_(matrix.view(parameter.shape), alpha=-group["lr"] * tall)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest (semi-)orthogonal matrix: singular values come out between 0.7 and 1.2.

    Args:
        matrix: float (rows, columns).
    """
    a, b, c = _NEWTON_SCHULZ
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def make_optimisers(module: nn.Module, kind: str, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """The optimisers over the module's trainable weights; each group keeps its peak rate as `peak`.

    With Muon, the first and the last layer, embeddings, norms and biases are AdamW's, as its authors advise.
    """
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    inner = [weight for name, weight in trained if kind == "muon" and _is_inner(name, weight)]
    ids = {id(weight) for weight in inner}
    others = [weight for _, weight in trained if id(weight) not in ids]
    optimisers: list[torch.optim.Optimizer] = []
    if others:
        share = ADAMW_SHARE if kind == "muon" else 1.0
        optimisers.append(torch.optim.AdamW(others, lr=rate * share, betas=(0.9, 0.99), weight_decay=weight_decay))
    if inner:
        optimisers.append(Muon(inner, lr=rate))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def _is_inner(name: str, weight: nn.Parameter) -> bool:
    outer = ("conv_in.", "conv_out.", "embedding", "decoder.layers.0.", "encoder.layers.0.")
    return weight.ndim >= 2 and min(weight.shape[0], weight[0].numel()) > 3 and not any(part in name for part in outer)
