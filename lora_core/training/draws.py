"""What is drawn for each image: start timestep, timestep, start noise, noise, and whether the pair is a clean one.

Each image has a generator of its own, seeded from its position, so that the draws depend neither on the batch size
nor on the number of processes.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lora_core.denoising import Start
from lora_core.experiment import Experiment
from lora_core.randomness import numpy_generator, torch_generator
from lora_core.training.noise import draw_noise


@dataclass(frozen=True)
class Draws:
    """The draws of one batch.

    Attributes:
        timesteps: t, int64 (batch,).
        starts: T, int64 (batch,), t <= T.
        kappa: start noise, float32 (batch,).
        eps: noise of `lora_core.training.noise`, float32 (batch, channels, height, width).
        clean: bool (batch,): the degraded half is replaced by the clean one.
    """

    timesteps: Tensor
    starts: Tensor
    kappa: Tensor
    eps: Tensor
    clean: Tensor

    def to(self, device: torch.device) -> "Draws":
        """The draws on a device, without waiting for the copy."""
        return Draws(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))


def draw(experiment: Experiment, starts: list[Start], positions: range, shape: tuple[int, ...]) -> Draws:
    """Draws for the images at `positions`; `shape` is that of one image's latents."""
    rows, noise = [], []
    for position in positions:
        random = numpy_generator("draws", experiment.seed, position)
        start = starts[int(random.integers(len(starts)))]
        first = start.timesteps[0]
        if experiment.objective.timesteps == "grid":
            timestep = start.timesteps[int(random.integers(len(start.timesteps)))]
        else:
            timestep = int(random.integers(first + 1))
        kappas = experiment.sweep.start_noises
        kappa = kappas[int(random.integers(len(kappas)))]
        rows.append((timestep, first, kappa, random.random() < experiment.objective.clean_fraction))
        noise.append(draw_noise(shape, experiment.objective, torch_generator("eps", experiment.seed, position)))
    timesteps, firsts, kappas_drawn, clean = zip(*rows, strict=True)
    return Draws(
        timesteps=torch.tensor(timesteps, dtype=torch.int64),
        starts=torch.tensor(firsts, dtype=torch.int64),
        kappa=torch.tensor(kappas_drawn, dtype=torch.float32),
        eps=torch.stack(noise),
        clean=torch.from_numpy(np.array(clean, dtype=bool)),
    )
