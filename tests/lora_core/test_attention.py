"""Narrow heads: padded attention gives what diffusers' gives, forward and backward."""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from lora_core.bases.attention import WideHeads, widen_heads


def unet(**settings: object) -> UNet2DConditionModel:
    """Heads of 10 and 20, as SD 1.5 at a quarter of its widths has them."""
    torch.manual_seed(0)
    sizes = {"block_out_channels": (80, 160), "attention_head_dim": 8, "cross_attention_dim": 24, "norm_num_groups": 16}
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    return UNet2DConditionModel(
        sample_size=8, layers_per_block=1, down_block_types=down, up_block_types=up, **(sizes | settings)
    ).train()


def test_padded_heads_give_the_values_and_gradients_of_diffusers() -> None:
    model = unet()
    noisy, text = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 24)

    def both() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        answer = model(noisy, torch.tensor([3, 700]), encoder_hidden_states=text).sample
        answer.square().sum().backward()
        return answer.detach(), [one.grad.clone() for one in model.parameters() if one.grad is not None]

    plain, gradients = both()
    assert widen_heads(model) == 6, "the outer level's heads are 10 wide, the middle's 20"
    padded, again = both()
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=1e-5)
    assert len(gradients) == len(again) > 100
    for one, other in zip(gradients, again, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


def test_wide_heads_and_attention_of_another_shape_stay_as_they_are() -> None:
    model = unet(attention_head_dim=(5, 10))
    assert widen_heads(model) == 0, "16 is wide enough"
    other = Attention(query_dim=32, heads=8, dim_head=4, norm_num_groups=4, residual_connection=True)
    model.mid_block.add_module("other", other)
    assert widen_heads(model) == 0 and isinstance(other.processor, AttnProcessor2_0)
    other.residual_connection, other.group_norm = False, None
    assert widen_heads(model) == 1 and isinstance(other.processor, WideHeads)
