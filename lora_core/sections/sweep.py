"""The inference grid, and the race in which its cells compete."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.sections.ranges import Numbers, WholeNumbers
from lora_core.settings import Section, field

Sampler = Literal["ddim", "euler", "dpm++"]
ColourFix = Literal["none", "adain", "wavelet"]

TIMESTEPS_FROM = ("strengths", "start_noises", "steps", "samplers", "timestep_spacing")
"""What training reads of the sweep: where restorations start, and with how much noise."""


class SweepSection(Section):
    """The inference grid: every checkpoint and the bare base at every combination."""

    strengths: Numbers = field(
        0, (0.1, 0.2, 0.3), "Denoising strengths in (0, 1]; a list or a range such as 0.2-0.8 [4]", min_length=1
    )
    start_noises: Numbers = field(
        1,
        (0.0,),
        "Share of the start noise: 0 is faithful and deterministic, 1 is img2img as web UIs do it",
        min_length=1,
    )
    steps: WholeNumbers = field(2, (1,), "Denoiser evaluations from the start timestep down", min_length=1)
    detail_returns: Numbers = field(
        3, (0.0, 1.0), "Share of what the autoencoder dropped from the input that is put back", min_length=1
    )
    lora_scales: Numbers = field(
        4, (1.0,), "Strengths of the LoRA, the fidelity dial; 1 is as it was trained", min_length=1
    )
    colour_fixes: tuple[ColourFix, ...] = field(
        5, ("none",), "Colours of the input put back: by mean and deviation (adain) or coarse shades (wavelet)",
        min_length=1,
    )  # fmt: skip
    samplers: tuple[Sampler, ...] = field(6, ("ddim",), "Schedulers of diffusers", min_length=1)
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None = field(
        7, "trailing", "The samplers' timestep grid; empty: as the base's own scheduler says"
    )
    guidance_scales: Numbers = field(
        8, (1.0,), "Classifier-free guidance, 1 to 30; 1 is off, as a fidelity score wants", min_length=1
    )
    seeds: WholeNumbers = field(9, (0,), "Seeds of the start noise; without start noise one is enough", min_length=1)
    batch: int = field(10, 8, "Pictures denoised at once", ge=1, le=1024)
    race: bool = field(
        11, True, "Drop clearly worse settings after a few photographs; off: every setting restores all of them"
    )
    race_confidence: float = field(12, 0.95, "How sure the race must be that a setting is worse", ge=0.5, lt=1)

    @model_validator(mode="after")
    def _values_in_range(self) -> Self:
        for name, low, high, open_low in (
            ("strengths", 0, 1, True),
            ("start_noises", 0, 1, False),
            ("steps", 1, 1000, False),
            ("detail_returns", 0, 1, False),
            ("lora_scales", 0, 4, True),
            ("guidance_scales", 1, 30, False),
            ("seeds", 0, 2**31, False),
        ):
            for value in getattr(self, name):
                if value > high or value < low or (open_low and value == low):
                    raise ValueError(f"{name}: {value} is outside {'(' if open_low else '['}{low}, {high}]")
        for name in (*(key for key, value in self if isinstance(value, tuple)),):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is given twice")
        return self
