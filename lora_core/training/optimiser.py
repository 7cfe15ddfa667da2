"""Optimiser and learning-rate schedule from their libraries."""

from typing import Any

import torch
from diffusers.optimization import get_scheduler

from lora_core.errors import ConfigError
from lora_core.experiment import TrainingSection
from lora_core.lora import Adapter


def make_optimiser(adapter: Adapter, training: TrainingSection) -> torch.optim.Optimizer:
    """AdamW over the LoRA, the text encoder's share at its own rate.

    Raises:
        ConfigError: bitsandbytes is asked for and does not load.
    """
    groups: list[dict[str, Any]] = [{"params": list(adapter.unet.values()), "lr": training.learning_rate}]
    if adapter.text_encoder:
        groups.append({"params": list(adapter.text_encoder.values()), "lr": training.text_encoder_learning_rate})
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    try:
        from bitsandbytes.optim import AdamW8bit
    except Exception as error:  # it fails in many ways where the CUDA libraries do not fit
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"training.optimizer: adamw8bit needs bitsandbytes, which does not load ({reason}); use adamw"
        ) from error
    return AdamW8bit(groups, weight_decay=training.weight_decay)


def make_schedule(optimiser: torch.optim.Optimizer, training: TrainingSection, updates: int) -> Any:
    """diffusers' schedule over `updates` weight updates, the first of them the warm-up."""
    return get_scheduler(
        training.scheduler,
        optimizer=optimiser,
        num_warmup_steps=round(training.warmup * updates),
        num_training_steps=updates,
        num_cycles=training.restarts,
    )
