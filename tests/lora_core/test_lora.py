"""The two LoRA files are read back by diffusers as the same update, alpha other than rank and convolutions included."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from safetensors import safe_open

from lora_core.bases.base import to_pixels
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.errors import BaseModelError
from lora_core.experiment import AdapterSection, BaseModelSection
from lora_core.files import file_digest
from lora_core.images import read_rgb
from lora_core.lora import attach, load_lora, save_lora

SECTION = AdapterSection(rank=4, alpha=2, layers="all", text_encoder=True)
METADATA = {"ss_network_dim": "4", "ss_network_alpha": "2.0", "ss_epoch": "1"}


def trained(miniature, section=SECTION):
    adapter = attach(open_base(BaseModelSection(model=str(miniature)), torch.device("cpu")), section, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    return adapter


@pytest.fixture(scope="module")
def saved(miniature, tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "checkpoints" / "mini-000001.safetensors"
    adapter = trained(miniature)
    row = save_lora(adapter, path.with_suffix(""), METADATA)
    assert (row["file"], row["kohya"]) == ("checkpoints/mini-000001.safetensors",) * 2
    return adapter, path, row["digest"]


def picture(miniature, photos, lora=None) -> np.ndarray:
    pipeline = StableDiffusionImg2ImgPipeline(
        **open_pipeline(BaseModelSection(model=str(miniature))).components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    if lora:
        pipeline.load_lora_weights(str(lora))
    pixels = to_pixels(read_rgb(sorted(photos.iterdir())[0])[:64, :64])[None]
    options = {"strength": 0.5, "num_inference_steps": 4, "guidance_scale": 2.0, "output_type": "np"}
    return pipeline("a photo", image=pixels, generator=torch.Generator().manual_seed(0), **options).images[0]


def test_kohya_and_diffusers_files_give_the_same_picture(miniature, photos, saved):
    _, path, _ = saved
    kohya, diffusers = picture(miniature, photos, path), picture(miniature, photos, path.with_suffix(""))
    assert np.abs(kohya - diffusers).max() <= 1e-4
    assert np.abs(kohya - picture(miniature, photos)).max() > 0.01


def test_the_kohya_file_is_what_sd_1_tools_expect(saved):
    adapter, path, _ = saved
    with safe_open(path, "pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
        assert file.get_tensor("lora_unet_mid_block_attentions_0_proj_in.alpha").item() == 2.0
    assert {key.split("_")[1] for key in keys} == {"unet", "te"}
    assert all(key.startswith(("lora_unet_", "lora_te_text_model_encoder_layers_")) for key in keys)
    assert len(keys) == 3 * len(adapter.parameters()) // 2
    assert metadata["ss_network_dim"] == "4" and metadata["ss_network_alpha"] == "2.0"
    assert "lora_adapter_metadata" not in metadata  # diffusers refuses a file with both kinds of alpha


def test_saving_again_gives_the_same_bytes_and_loading_the_same_weights(miniature, saved, tmp_path):
    adapter, path, digest = saved
    row = save_lora(adapter, tmp_path / "checkpoints" / path.stem, METADATA)
    assert row["digest"] == digest == file_digest(path)
    other = attach(open_base(BaseModelSection(model=str(miniature)), torch.device("cpu")), SECTION, seed=5)
    other.load(load_lora(path.with_suffix("")))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(adapter.parameters(), other.parameters(), strict=True))


def test_switched_off_it_is_the_bare_base(miniature):
    section = BaseModelSection(model=str(miniature))
    base, adapter = open_base(section, torch.device("cpu")), trained(miniature)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def answer(of) -> torch.Tensor:
        with torch.no_grad():
            return of.predict(latents, torch.tensor([99]), of.encode_prompt(["a photo"]))

    adapter.enable(False)
    torch.testing.assert_close(answer(adapter.base), answer(base), atol=1e-6, rtol=0)
    adapter.enable(True)
    assert (answer(adapter.base) - answer(base)).abs().max() > 0.01


def test_a_fresh_lora_changes_nothing_and_depends_on_the_seed_alone(miniature):
    one, again, other = (
        attach(open_base(BaseModelSection(model=str(miniature)), torch.device("cpu")), SECTION, seed).state()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(not one[name].any() for name in one if "lora_B" in name)


@pytest.mark.parametrize(("section", "reason"), [
    (AdapterSection(rank=8, alpha=2, layers="all", text_encoder=True), "another rank"),
    (AdapterSection(rank=4, alpha=2, layers="attention", text_encoder=True), "does not fit"),
])  # fmt: skip
def test_a_lora_of_another_shape_is_refused_by_name(miniature, saved, section, reason):
    with pytest.raises(BaseModelError, match=reason):
        trained(miniature, section).load(load_lora(saved[1].with_suffix("")))
