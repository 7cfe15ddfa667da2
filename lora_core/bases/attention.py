"""Attention of narrow heads on CPUs, padded to the width at which torch's kernel is quickest; same values.

SD 1.5's narrowest heads are 40 wide, a smaller base's may be 10. torch's flash attention for CPUs works in vectors:
forward and backward over 1,024 tokens and 8 heads of four pictures took 302 ms at a width of 10 and 165 ms at 16 (one
thread of an AMD EPYC); at 20, 24 or 40, more zeros gain nothing. They change neither the products of queries and keys
nor the other columns of the result; the scale stays that of the true width.
"""

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor
from torch.nn import functional

WIDTH = 16
"""Values of a head, to which narrower heads are padded."""


def widen_heads(unet: UNet2DConditionModel) -> int:
    """Replaces the attention of the UNet's heads that are narrower than `WIDTH`; returns how many layers that are."""
    narrow = [layer for layer in unet.modules() if isinstance(layer, Attention) and _is_narrow(layer)]
    for layer in narrow:
        layer.set_processor(WideHeads())
    return len(narrow)


class WideHeads:
    """diffusers' `AttnProcessor2_0` for the layers of a transformer block, with padded heads."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """`hidden_states`: (batch, tokens, channels); the text, where there is one: (batch, words, channels)."""
        if attention_mask is not None:  # nothing of ours has one
            return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask)
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        width = attn.inner_dim // attn.heads
        query, key, value = (
            functional.pad(part.unflatten(-1, (attn.heads, width)), (0, WIDTH - width)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen))
        )
        answer = functional.scaled_dot_product_attention(query, key, value, scale=width**-0.5)
        to_out, dropout = attn.to_out
        return dropout(to_out(answer.transpose(1, 2)[..., :width].flatten(-2)))


def _is_narrow(layer: Attention) -> bool:
    """Whether it has narrow heads and is a transformer block's, which has no norms and no shortcut of its own."""
    parts = (layer.spatial_norm, layer.group_norm, layer.norm_cross, layer.norm_q, layer.norm_k)
    unchanged = not layer.residual_connection and layer.rescale_output_factor == 1.0
    return layer.inner_dim // layer.heads < WIDTH and not any(parts) and unchanged
