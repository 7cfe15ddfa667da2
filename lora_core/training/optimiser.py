"""Optimiser and learning-rate schedule from their libraries.

The groups hold the text encoder's share at its own rate, and with LoRA+ (Hayou et al. 2024, section 4) the B matrices
at a multiple of the A matrices' rate. A moving average, and a schedule-free optimiser, judge other weights than those
that they train: `evaluating` puts these in place for a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import nn

from lora_core.errors import ConfigError
from lora_core.experiment import TrainingSection
from lora_core.lora import Adapter
from lora_core.training.flat import flatten


def make_optimiser(adapter: Adapter, training: TrainingSection) -> torch.optim.Optimizer:
    """The optimiser over the LoRA.

    Raises:
        ConfigError: bitsandbytes is asked for and does not load.
    """
    groups, decay = _groups(adapter, training), training.weight_decay
    name = training.optimizer
    if name == "adamw":
        flat = [{**group, "params": [flatten(group["params"])]} for group in groups]
        return torch.optim.AdamW(flat, weight_decay=decay, fused=True)
    if name in ("adamw8bit", "paged-adamw8bit"):
        bits = _bitsandbytes(name)
        return (bits.AdamW8bit if name == "adamw8bit" else bits.PagedAdamW8bit)(groups, weight_decay=decay)
    if name == "adafactor":
        return torch.optim.Adafactor(groups, weight_decay=decay)
    import pytorch_optimizer as library

    kind = {"lion": library.Lion, "prodigy": library.Prodigy, "schedule-free-adamw": library.ScheduleFreeAdamW}[name]
    return kind(groups, weight_decay=decay, weight_decouple=True)


def trained_tensors(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What the optimiser moves: the LoRA's parameters, or what they are views of."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def make_schedule(optimiser: torch.optim.Optimizer, training: TrainingSection, updates: int) -> Any:
    """diffusers' schedule over `updates` weight updates, the first of them the warm-up."""
    if training.scheduler == "piecewise_constant":
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda update: _piece(training, update, updates))
    return get_scheduler(
        training.scheduler,
        optimizer=optimiser,
        num_warmup_steps=round(training.warmup * updates),
        num_training_steps=updates,
        num_cycles=training.restarts,
    )


@contextmanager
def evaluating(optimiser: Any, parameters: list[nn.Parameter], average: "Average | None") -> Iterator[None]:
    """The weights to judge and to save, within the block: the moving average, or what a schedule-free optimiser says.

    Afterwards the trained weights are back to the bit.
    """
    inner = getattr(optimiser, "optimizer", optimiser)  # accelerate wraps it
    if average is None and not hasattr(inner, "eval"):
        yield
        return
    trained = [parameter.detach().clone() for parameter in parameters]
    states = [dict(group) for group in inner.param_groups]
    with torch.no_grad():
        if average is not None:
            torch._foreach_copy_(list(parameters), average.values)
        else:
            inner.eval()
    try:
        yield
    finally:
        if hasattr(inner, "eval"):
            for group, before in zip(inner.param_groups, states, strict=True):
                group.update(before)
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), trained)


class Average:
    """An exponential moving average of the LoRA, its half-life in images (Karras et al. 2024, EDM2, section 3)."""

    def __init__(self, parameters: list[nn.Parameter], half_life: int):
        self.parameters, self.half_life = parameters, half_life
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Moves the average by one weight update of so many images."""
        torch._foreach_lerp_(
            self.values, [parameter.detach() for parameter in self.parameters], 1 - 0.5 ** (images / self.half_life)
        )


@torch.no_grad()
def limit_norms(adapter: Adapter, largest: float) -> None:
    """Scales A and B alike where a module's update scale B A is longer than `largest` (Frobenius); waits for nothing.

    ||B A||^2 = <B'B, A A'>, so the update itself is never formed.
    """
    for layer in adapter.layers.values():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        down, up = a.flatten(1), b.flatten(1)
        squared = ((up.T @ up) * (down @ down.T)).sum().clamp(min=1e-24)
        factor = (largest / (layer.scaling["default"] * squared.sqrt())).clamp(max=1).sqrt()
        a.mul_(factor)
        b.mul_(factor)


def _groups(adapter: Adapter, training: TrainingSection) -> list[dict[str, Any]]:
    condition = dict(adapter.control.condition.named_parameters()) if adapter.control else {}
    groups = []
    for named, rate in (
        ({**adapter.unet, **condition}, training.learning_rate),
        (adapter.text_encoder, training.text_encoder_learning_rate),
    ):
        plain = [value for name, value in named.items() if training.lora_plus == 1 or "lora_B" not in name]
        raised = [value for name, value in named.items() if training.lora_plus != 1 and "lora_B" in name]
        groups += [{"params": plain, "lr": rate}] if plain else []
        groups += [{"params": raised, "lr": rate * training.lora_plus}] if raised else []
    return groups


def _piece(training: TrainingSection, update: int, updates: int) -> float:
    """The factor at an update, after a linear warm-up."""
    factor = next((factor for until, factor in training.rate_factors() if update < until * updates), 0.0)
    warmup = round(training.warmup * updates)
    return factor * min(1.0, update / warmup) if warmup else factor


def _bitsandbytes(name: str) -> Any:
    try:
        import bitsandbytes.optim
    except Exception as error:  # it fails in many ways where the CUDA libraries do not fit
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"training.optimizer: {name} needs bitsandbytes, which does not load ({reason}); use adamw"
        ) from error
    return bitsandbytes.optim
