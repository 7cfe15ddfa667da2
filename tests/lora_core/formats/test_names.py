"""kohya's names find their way back to the modules of every UNet and text encoder of SD's shape."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lora_core.formats.names import from_kohya_name, is_known, to_kohya_name, usual_modules
from tests.lora_core.formats.made_up import lora_modules, open_miniature


def modules(model: nn.Module, part: str) -> list[str]:
    return [f"{part}.{name}" for name, one in model.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]


@pytest.fixture(scope="module")
def full_size() -> list[str]:
    """SD 1.5's own, without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
    return [*modules(unet, "unet"), *modules(text, "text_encoder")]


def test_every_module_comes_back(full_size, miniature: Path):
    for names in (full_size, lora_modules(open_miniature(miniature))):
        assert {from_kohya_name(to_kohya_name(name)) for name in names} == set(names)
    assert set(full_size) <= set(usual_modules())
    attention = [name for name in full_size if ".attentions." in name]
    assert len(attention) == 192 and len([name for name in full_size if "text" in name]) == 72  # as kohya counts


@pytest.mark.parametrize(("module", "name"), [
    ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
     "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
     "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj"),
    ("unet.mid_block.resnets.1.time_emb_proj", "lora_unet_mid_block_resnets_1_time_emb_proj"),
    ("unet.down_blocks.0.downsamplers.0.conv", "lora_unet_down_blocks_0_downsamplers_0_conv"),
    ("text_encoder.encoder.layers.11.self_attn.q_proj", "lora_te_text_model_encoder_layers_11_self_attn_q_proj"),
])  # fmt: skip
def test_names_are_kohyas(module: str, name: str):
    assert (to_kohya_name(module), from_kohya_name(name)) == (name, module)


def test_what_is_no_module_is_not_known():
    for name in ("unet.down_blocks.0.to_q", "unet.mid.block.attentions.0.proj_in", "vae.conv_in", "text_encoder.fc1"):
        assert not is_known(name)
