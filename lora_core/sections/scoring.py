"""What 'better' means."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field


class ScoringSection(Section):
    """What 'better' means."""

    perceptual: Literal["auto", "lpips", "gmsd"] = field(
        0, "auto", "Perceptual metric; auto takes LPIPS where its weights are at hand, else GMSD"
    )
    lpips_weights: str | None = field(1, None, "File with torchvision's AlexNet weights; empty: the torch hub cache")
    psnr_weight: float = field(2, 1.0, "Weight of the gain in PSNR-Y (1 dB is one point)", ge=0)
    ssim_weight: float = field(3, 1.0, "Weight of the gain in SSIM-Y (0.04 is one point)", ge=0)
    perceptual_weight: float = field(4, 1.0, "Weight of the perceptual gain (10 % less distance is one point)", ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.psnr_weight + self.ssim_weight + self.perceptual_weight == 0:
            raise ValueError("all weights are 0: nothing would be better than anything")
        return self
