"""What the LoRA learns to predict."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field


class ObjectiveSection(Section):
    """What the LoRA learns to predict (DESIGN section 4)."""

    kind: Literal["bridge", "bridge-ancestral", "direct", "denoise"] = field(
        0,
        "direct",
        "bridge: consistent over many steps; direct: one step from any timestep; denoise: clean photos only",
    )
    timesteps: Literal["grid", "uniform"] = field(
        1, "grid", "Train at the timesteps that the sweep visits, or uniformly below each start timestep"
    )
    weighting: Literal["min-snr", "debiased", "none"] = field(
        2, "min-snr", "Weight of a timestep: min(SNR, gamma) / SNR, 1 / sqrt(SNR), or 1"
    )
    snr_gamma: float = field(3, 5.0, "Gamma of min-snr", gt=0)
    loss: Literal["l2", "l1", "huber"] = field(4, "l2", "Distance of prediction and target")
    huber_delta: float = field(5, 0.1, "Error at which huber turns from square to straight", gt=0)
    clean_fraction: float = field(6, 0.05, "Share of pairs in which the degraded half is the clean one", ge=0, le=0.5)
    control: bool = field(
        7, False, "Give the UNet the degraded latents as further input channels (conv_in is widened and trained)"
    )
    noise_offset: float = field(8, 0.0, "Standard deviation of a shift of each channel's noise", ge=0, le=1)
    pyramid_noise: float = field(9, 0.0, "Multi-resolution noise: weight ratio from level to level", ge=0, lt=1)
    pixel_l1: float = field(10, 0.0, "Weight of the L1 distance of the decoded estimate, in pixels of [-1, 1]", ge=0)
    pixel_lpips: float = field(11, 0.0, "Weight of LPIPS on the decoded estimate", ge=0)
    pixel_vgg: float = field(12, 0.0, "Weight of the L1 distance of VGG-16 features of the decoded estimate", ge=0)
    vgg_weights: str | None = field(13, None, "File with torchvision's VGG-16 weights; empty: the torch hub cache")
    prior_images: float = field(
        14, 0.0, "Weight of plain denoising of the regularisation images in dataset/prior/N_name/", ge=0
    )
    prior_preservation: float = field(
        15, 0.0, "Weight of the distance to the frozen base's own prediction on noised clean latents", ge=0
    )

    @model_validator(mode="after")
    def _control_has_room(self) -> Self:
        if self.control and self.kind == "direct":
            raise ValueError("control: 'direct' already shows the degraded latents; use kind=bridge or kind=denoise")
        return self

    @property
    def pixel_terms(self) -> bool:
        """Whether the loss looks at decoded pixels."""
        return self.pixel_l1 + self.pixel_lpips + self.pixel_vgg > 0
