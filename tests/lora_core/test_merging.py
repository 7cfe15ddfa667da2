"""A merged LoRA answers as one that stands apart, and leaves no trace."""

import pytest
import torch

from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import AdapterSection, BaseModelSection
from lora_core.lora import attach
from lora_core.merging import merged


@pytest.mark.parametrize(
    "section", [AdapterSection(rank=4), AdapterSection(rank=4, dora=True, rslora=True, formats="diffusers")]
)
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_merged_is_the_same_answer_and_the_weights_come_back(miniature, section, factor):
    base = open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))
    adapter = attach(base, section, 0)
    for number, parameter in enumerate(adapter.parameters()):
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.05
    adapter.scale(factor)
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        asked = latents, torch.tensor([10, 500]), base.encode_prompt(["a photo"] * 2)
        with adapter.disabled():
            bare = base.predict(*asked)
        apart = base.predict(*asked)
        with merged(adapter):
            together = base.predict(*asked)
            assert all(layer.merged for layer in adapter.layers.values())
        assert (apart - bare).abs().max() > 1e-2
        torch.testing.assert_close(together, apart, atol=2e-5, rtol=1e-4)
        assert torch.equal(base.predict(*asked), apart)
    after = base.unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_half_precision_keeps_the_update_apart(miniature):
    base = open_base(BaseModelSection(model=str(miniature), precision="bf16"), torch.device("cpu"))
    adapter = attach(base, AdapterSection(rank=4), 0)
    with merged(adapter):
        assert not any(layer.merged for layer in adapter.layers.values())
