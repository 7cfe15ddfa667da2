"""LoRAs with made-up values, for a model's own modules."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from lora_core.formats.weights import LoraWeights, checked

NOWHERE = Path("made-up")
EVEN, MIXED = (1.5,), (1.5, 1.5, 4.0, 0.5)


def open_miniature(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def lora_modules(pipeline: StableDiffusionPipeline) -> dict[str, nn.Module]:
    """Every linear layer and convolution that can carry a LoRA."""
    return {
        f"{part}.{name}": module
        for part, model in (("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def made_up(shapes: dict[str, torch.Size], ranks=(2, 4), alphas=EVEN, seed=0, dora=False, scale=0.1) -> LoraWeights:
    """A LoRA whose modules take `ranks` and `alphas` in turn."""
    generator = torch.Generator().manual_seed(seed)
    tensors, chosen = {}, {}
    for index, (module, shape) in enumerate(sorted(shapes.items())):
        rank = ranks[index % len(ranks)]
        up = (shape[0], rank, *(1 for _ in shape[2:]))
        tensors[f"{module}.lora_A.weight"] = scale * torch.randn((rank, *shape[1:]), generator=generator)
        tensors[f"{module}.lora_B.weight"] = scale * torch.randn(up, generator=generator)
        if dora:
            tensors[f"{module}.lora_magnitude_vector"] = 0.5 + torch.rand(shape[0], generator=generator)
        chosen[module] = alphas[index % len(alphas)]
    return checked(tensors, chosen, NOWHERE)


def shapes_of(pipeline: StableDiffusionPipeline) -> dict[str, torch.Size]:
    return {name: module.weight.shape for name, module in lora_modules(pipeline).items()}


def same(one: LoraWeights, other: LoraWeights, tolerance: float = 0.0) -> bool:
    """Whether both make the same update of every module."""
    return one.modules() == other.modules() and all(
        torch.allclose(one.delta(module), other.delta(module), atol=tolerance, rtol=tolerance)
        for module in one.modules()
    )


SMALL = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": torch.Size((6, 5)),
    "unet.down_blocks.0.attentions.0.proj_in": torch.Size((6, 5, 1, 1)),
    "unet.mid_block.resnets.0.conv1": torch.Size((7, 4, 3, 3)),
    "text_encoder.encoder.layers.0.self_attn.out_proj": torch.Size((8, 8)),
}
