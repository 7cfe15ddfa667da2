"""One way through the denoiser, as plain data. Imports no torch."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """Where a restoration starts.

    Attributes:
        num_inference_steps: the web UIs' number of steps, for the whole grid.
        timesteps: the timesteps that are visited, falling; the first is the start timestep.
    """

    strength: float
    steps: int
    num_inference_steps: int
    timesteps: tuple[int, ...]


@dataclass(frozen=True)
class Denoising:
    """Everything that the denoiser is told, but for the LoRA and the prompt.

    Attributes:
        start_noise: kappa in [0, 1].
        spacing: of the sampler's timesteps; None: the base's own.
        seed: of the start noise.
    """

    start: Start
    start_noise: float
    sampler: str = "ddim"
    guidance_scale: float = 1.0
    spacing: str | None = "trailing"
    seed: int = 0

    @property
    def together(self) -> Hashable:
        """What must be equal for pictures that are denoised in one batch.

        The DDIM walk takes a timestep for each picture; the schedulers of diffusers know one for all.
        """
        alike = self.start.steps if self.sampler == "ddim" else self.start
        return self.sampler, self.guidance_scale, self.spacing, alike

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations for one picture."""
        return self.start.steps * (1 if self.guidance_scale == 1 else 2)
