"""What 'better' means."""

from typing import Any, Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field

MetricName = Literal[
    "ms_ssim", "ssim_skimage", "gmsd", "ciede2000",
    "lpips_alex", "lpips_vgg", "lpips_squeeze", "dists",
    "niqe", "musiq", "clipiqa", "maniqa",
]  # fmt: skip

COLUMNS_ONLY = ("metrics", "vgg_weights", "squeezenet_weights", "dists_weights")
"""Settings of further columns, which no ranking reads."""


class ScoringSection(Section):
    """What 'better' means."""

    perceptual: Literal["auto", "lpips", "gmsd"] = field(
        0, "auto", "Perceptual metric; auto takes LPIPS where its weights are at hand, else GMSD"
    )
    lpips_weights: str | None = field(1, None, "File with torchvision's AlexNet weights; empty: the torch hub cache")
    psnr_weight: float = field(2, 1.0, "Weight of the gain in PSNR-Y (1 dB is one point)", ge=0)
    ssim_weight: float = field(3, 1.0, "Weight of the gain in SSIM-Y (0.04 is one point)", ge=0)
    perceptual_weight: float = field(4, 1.0, "Weight of the perceptual gain (10 % less distance is one point)", ge=0)
    min_gain_psnr_y: float | None = field(
        5, None, "A winner's least gain in PSNR-Y over the input, in dB, e.g. -0.3; empty: no such condition"
    )
    min_gain_ssim_y: float | None = field(6, None, "A winner's least gain in SSIM-Y over the input, e.g. -0.01")
    min_gain_perceptual: float | None = field(
        7, None, "A winner's least perceptual gain, as a share of the input's distance, e.g. 0.05", le=1
    )
    metrics: tuple[MetricName, ...] = field(
        8,
        ("ms_ssim", "ciede2000"),
        "Further columns of the table, for cells that saw all photographs; LPIPS, DISTS and the last four need weights",
    )
    vgg_weights: str | None = field(
        9, None, "File with torchvision's VGG-16 weights, for lpips_vgg and dists; empty: the torch hub cache"
    )
    squeezenet_weights: str | None = field(
        10, None, "File with torchvision's SqueezeNet 1.1 weights, for lpips_squeeze"
    )
    dists_weights: str | None = field(11, None, "File with the DISTS authors' alpha and beta; empty: the hub cache")

    def deciding(self) -> dict[str, Any]:
        """What decides a composite, as JSON; further columns do not, nor do their weights."""
        return self.model_dump(mode="json", exclude=set(COLUMNS_ONLY))

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.psnr_weight + self.ssim_weight + self.perceptual_weight == 0:
            raise ValueError("all weights are 0: nothing would be better than anything")
        return self

    @model_validator(mode="after")
    def _each_metric_once(self) -> Self:
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics: a name is given twice in {', '.join(self.metrics)}")
        return self
