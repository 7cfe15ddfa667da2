"""The inference grid."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field


class SweepSection(Section):
    """The inference grid: every checkpoint and the bare base at every combination."""

    strengths: tuple[float, ...] = field(0, (0.1, 0.2, 0.3), "Denoising strengths, each in (0, 1]", min_length=1)
    start_noises: tuple[float, ...] = field(
        1,
        (0.0,),
        "Share of the start noise: 0 is faithful and deterministic, 1 is img2img as web UIs do it",
        min_length=1,
    )
    steps: tuple[int, ...] = field(2, (1,), "Denoiser evaluations from the start timestep down", min_length=1)
    detail_returns: tuple[float, ...] = field(
        3, (0.0, 1.0), "Share of what the autoencoder dropped from the input that is put back", min_length=1
    )
    sampler: Literal["ddim", "euler", "dpm++"] = field(4, "ddim", "Scheduler of diffusers")
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None = field(
        5, "trailing", "The sampler's timestep grid; empty: as the base's own scheduler says"
    )
    guidance_scale: float = field(6, 1.0, "Classifier-free guidance; 1 is off, as a fidelity score wants", ge=1, le=30)
    batch: int = field(7, 8, "Photographs denoised at once", ge=1, le=1024)

    @model_validator(mode="after")
    def _values_in_range(self) -> Self:
        for name, values, low, high, open_low in (
            ("strengths", self.strengths, 0, 1, True),
            ("start_noises", self.start_noises, 0, 1, False),
            ("steps", self.steps, 1, 1000, False),
            ("detail_returns", self.detail_returns, 0, 1, False),
        ):
            for value in values:
                if value > high or value < low or (open_low and value == low):
                    raise ValueError(f"{name}: {value} is outside {'(' if open_low else '['}{low}, {high}]")
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is given twice")
        return self
