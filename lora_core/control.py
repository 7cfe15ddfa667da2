"""The condition channel: a UNet that sees the degraded latents beside the noisy ones.

conv_in is widened from C to 2 C input channels, the new half zero (InstructPix2Pix, Brooks et al. 2023, section 3.2),
so that at the start the base answers as before. Only the new half is trained. It is no low-rank update: it is saved
beside the LoRA as the whole widened `conv_in.weight`, and no kohya file can hold it.
"""

import torch
from torch import Tensor, nn

from lora_core.bases.base import Base
from lora_core.errors import BaseModelError


class WidenedConvIn(nn.Module):
    """conv_in for twice the channels: the base's own, frozen, for the first half and a trained one for the second."""

    def __init__(self, latents: nn.Conv2d):
        super().__init__()
        self.latents, self.on = latents, True
        self.condition = nn.Conv2d(
            latents.in_channels, latents.out_channels, latents.kernel_size, padding=latents.padding, bias=False,  # type: ignore[arg-type]
            device=latents.weight.device, dtype=torch.float32,
        )  # fmt: skip
        nn.init.zeros_(self.condition.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 C, height, width) to the features of the first block; C channels mean no condition."""
        channels = self.latents.in_channels
        seen = self.latents(x[:, :channels])
        if self.on and x.shape[1] > channels:
            seen = seen + self.condition(x[:, channels:].to(self.condition.weight.dtype)).to(seen.dtype)
        return seen


def widen(base: Base) -> WidenedConvIn:
    """Widens the base's conv_in in place."""
    wide = WidenedConvIn(base.unet.conv_in)
    base.unet.conv_in = wide
    base.control = True
    return wide


def control_state(wide: WidenedConvIn) -> dict[str, Tensor]:
    """The whole widened convolution, as a UNet with 2 C input channels has it; copies on the CPU, float32."""
    weight = torch.cat([wide.latents.weight.float(), wide.condition.weight], dim=1)
    state = {"conv_in.weight": weight}
    if wide.latents.bias is not None:
        state["conv_in.bias"] = wide.latents.bias.float()
    return {name: value.detach().cpu().clone() for name, value in state.items()}


@torch.no_grad()
def load_control(wide: WidenedConvIn, state: dict[str, Tensor]) -> None:
    """Puts a saved condition half in place.

    Raises:
        BaseModelError: it was trained on another base.
    """
    channels = wide.latents.in_channels
    weight = state.get("conv_in.weight")
    if weight is None or weight.shape != (wide.latents.out_channels, 2 * channels, *wide.latents.kernel_size):
        raise BaseModelError(
            "the condition channel does not fit this base: conv_in.weight is missing or of other shape"
        )
    if not torch.allclose(weight[:, :channels], wide.latents.weight.float().cpu(), atol=1e-2):
        raise BaseModelError("the condition channel was trained on another base: its first half is not this conv_in")
    wide.condition.weight.copy_(weight[:, channels:])
