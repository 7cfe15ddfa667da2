"""The small interface that training and the sweep see of a base model."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_core.objectives import NoiseSchedule


@dataclass
class Base:
    """A frozen latent diffusion model on one device.

    Attributes:
        vae: autoencoder of diffusers (AutoencoderKL or AutoencoderTiny), float32 whatever the precision:
            its rounding errors would be errors of every score.
        unet: UNet2DConditionModel in `dtype`.
        text_encoder: CLIPTextModel in `dtype`.
        scheduler_config: the base's own scheduler configuration.
        factor: pixels along one side of a latent cell.
        control: whether the UNet's conv_in was widened for the degraded latents (`lora_core.control`).
        multiple: pixels that a side must be a multiple of, so that the UNet's skip connections meet.
    """

    vae: Any
    unet: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: dict[str, Any]
    schedule: NoiseSchedule
    factor: int
    multiple: int
    device: torch.device
    dtype: torch.dtype
    control: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where the base is in half precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Photographs to scaled latents.

        Args:
            pixels: float32 (batch, 3, height, width) in [-1, 1], sides multiples of `factor`.

        Returns:
            float32 (batch, channels, height / factor, width / factor); the mean, never a sample.
        """
        encoded = self.vae.encode(pixels.to(self.device))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latents.float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to pixels, float32 (batch, 3, height, width), about [-1, 1], not clipped.

        On a CPU one by one: a decoder gains nothing from a batch there, and its layers outgrow the caches.
        """
        parts = latents.split(1) if self.device.type == "cpu" else (latents,)
        return torch.cat([self.decode_with_gradient(part) for part in parts])

    def decode_with_gradient(self, latents: Tensor) -> Tensor:
        """As `decode`, for a loss on pixels."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample.float()

    def encode_prompt(self, prompts: list[str]) -> Tensor:
        """Text to embeddings (batch, tokens, width); differentiable, so that a text-encoder LoRA can train."""
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self.device))[0]

    def predict(self, latents: Tensor, timesteps: Tensor, text: Tensor, condition: Tensor | None = None) -> Tensor:
        """The UNet's answer in mixed precision, (batch, channels, height, width) float32.

        Args:
            condition: the degraded latents, which a UNet with a widened conv_in (`control`) reads beside the others
                and any other leaves alone.
        """
        if self.control and condition is not None:
            latents = torch.cat([latents, condition], dim=1)
        with self.autocast():
            return self.unet(latents.to(self.dtype), timesteps, text.to(self.dtype)).sample.float()


@contextmanager
def in_evaluation(base: Base) -> Iterator[None]:
    """UNet and text encoder as they are used, without dropout; as they were again afterwards."""
    models = (base.unet, base.text_encoder)
    before = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)


def to_pixels(rgb: np.ndarray) -> Tensor:
    """(height, width, 3) or (batch, height, width, 3) uint8 to float32 in [-1, 1] with channels first."""
    tensor = torch.from_numpy(np.ascontiguousarray(rgb)).float() / 127.5 - 1
    return tensor.movedim(-1, -3).contiguous()


def to_rgb(pixels: Tensor) -> np.ndarray:
    """Float pixels in [-1, 1], channels first, to uint8 with channels last; clipped and rounded."""
    values = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return values.movedim(-3, -1).cpu().numpy()
