"""What a training run will cost, told before it starts: updates, time and disk."""

import math
from dataclasses import dataclass
from pathlib import Path

from lora_core.errors import ResourceError
from lora_core.files import require_space
from lora_core.pretraining.epochs import advised_epochs
from lora_core.pretraining.recipe import Recipe

_CHECKPOINT_BYTES = 2  # fp16
_STATE_BYTES = 4  # fp32
_STATE_COPIES = 2  # a new state is complete on disk before the old one goes


@dataclass(frozen=True)
class Sizes:
    """What the model and the cache weigh.

    Attributes:
        trained: parameters of the UNet, and of the text encoder where it is trained.
        frozen: every other parameter that a checkpoint holds.
        latent_bytes: bytes that one image takes in the cache of latents; 0 where none is written.
    """

    trained: int
    frozen: int
    latent_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """A run before it starts.

    Attributes:
        updates: weight updates.
        images: images seen, repeats included.
        seconds: of the updates alone; validations, test images and the autoencoder come on top.
        checkpoints: how many stay on disk after pruning.
        checkpoint_bytes: of one checkpoint (fp16).
        state_bytes: of one saved state (fp32: weights, their moving average, two moments).
        cache_bytes: of the cached latents.
        disk_bytes: the most that all of it takes; a state lies there twice while it is replaced.
    """

    updates: int
    images: int
    seconds: float
    checkpoints: int
    checkpoint_bytes: int
    state_bytes: int
    cache_bytes: int
    disk_bytes: int


def estimate(recipe: Recipe, images: int, seconds_per_update: float, sizes: Sizes) -> Estimate:
    """Reckons a whole run from a few measured updates.

    Args:
        images: training images.
        seconds_per_update: median of the updates after the warm-up.
    """
    training = recipe.training
    epochs = training.epochs or advised_epochs(images).recommended
    seen = images * epochs
    updates = math.ceil(seen / (training.batch * training.accumulation * training.processes))
    checkpoint = _CHECKPOINT_BYTES * (sizes.trained + sizes.frozen)
    fitting = max(2, int(training.keep_gib * 2**30 // checkpoint))  # the best and the last stay in any case
    checkpoints = min(math.ceil(epochs / training.checkpoint_every), fitting)
    state = _STATE_BYTES * sizes.trained * (3 if training.ema is None else 4)
    cache = images * sizes.latent_bytes
    return Estimate(
        updates=updates,
        images=seen,
        seconds=updates * seconds_per_update,
        checkpoints=checkpoints,
        checkpoint_bytes=checkpoint,
        state_bytes=state,
        cache_bytes=cache,
        disk_bytes=checkpoints * checkpoint + _STATE_COPIES * state + cache,
    )


def words(one: Estimate) -> str:
    """The estimate in a line, for example `12,000 updates, about 3 h 20 min; 1.4 GiB on disk: ...`."""
    unit, name = (2**30, "GiB") if one.disk_bytes >= 2**30 else (2**20, "MiB")
    parts = [
        f"checkpoints {one.checkpoints * one.checkpoint_bytes / unit:,.1f}",
        f"state {_STATE_COPIES * one.state_bytes / unit:,.1f}",
    ]
    if one.cache_bytes:
        parts.append(f"cached latents {one.cache_bytes / unit:,.1f}")
    time = f"{one.updates:,} updates, about {duration(one.seconds)}"
    return f"{time}; {one.disk_bytes / unit:,.1f} {name} on disk: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """`2 d 4 h`, `3 h 20 min`, `12 min` or `40 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def check_disk(one: Estimate, folder: Path) -> str | None:
    """Looks at the free disk before the first expensive second.

    Returns:
        A warning where the run can start but not all of it fits; None where it fits.

    Raises:
        ResourceError: not even one checkpoint, the state and the cached latents fit.
    """
    least = one.disk_bytes - (one.checkpoints - 1) * one.checkpoint_bytes
    require_space(folder, least, "training with a single checkpoint")
    try:
        require_space(folder, one.disk_bytes, f"training with {one.checkpoints} checkpoints")
    except ResourceError as shortage:
        return f"{shortage}; or keep fewer checkpoints: training.keep_gib={2 * one.checkpoint_bytes / 2**30:.3g}"
    return None
