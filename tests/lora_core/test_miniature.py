"""The miniature is loaded by diffusers from either form, to the same weights and the same picture."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from tests.miniature import miniature_base, miniature_single_file, unet_to_compvis

MODELS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def from_folder(miniature: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(miniature, local_files_only=True)


@pytest.fixture(scope="module")
def from_file(miniature: Path, miniature_file: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_single_file(str(miniature_file), config=str(miniature), local_files_only=True)


@pytest.mark.parametrize("name", MODELS)
def test_both_forms_load_to_the_weights_on_disk(
    name: str, miniature: Path, from_folder: StableDiffusionPipeline, from_file: StableDiffusionPipeline
) -> None:
    file = "model.safetensors" if name == "text_encoder" else "diffusion_pytorch_model.safetensors"
    on_disk = {key.removeprefix("text_model."): value for key, value in load_file(miniature / name / file).items()}
    on_disk.pop("embeddings.position_ids", None)
    for pipeline in (from_folder, from_file):
        loaded = {key.removeprefix("text_model."): value for key, value in getattr(pipeline, name).state_dict().items()}
        assert loaded.keys() == on_disk.keys()
        assert all(torch.equal(loaded[key], on_disk[key]) for key in on_disk)


def test_both_forms_make_the_same_picture(
    from_folder: StableDiffusionPipeline, from_file: StableDiffusionPipeline, photos: Path
) -> None:
    photo = Image.open(photos / "chelsea.png").crop((0, 0, 64, 64))
    pictures = []
    for pipeline in (from_folder, from_file):
        img2img = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
        img2img.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        call = img2img(
            "a sharp photo", photo, strength=0.4, num_inference_steps=5, generator=generator, output_type="pt"
        )
        pictures.append(call.images)
    assert pictures[0].shape == (1, 3, 64, 64)
    assert pictures[0].std() > 0.01
    # Their weights are the same (above), but not where they lie in memory, on which a kernel's sums may depend.
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-5, rtol=0)


def test_the_tokenizer_merges_words_and_keeps_every_byte(from_folder: StableDiffusionPipeline) -> None:
    tokenizer = from_folder.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A sharp photo, naïve").input_ids)
    assert tokens[:4] == ["<|startoftext|>", "a</w>", "sharp</w>", "photo</w>"]
    assert tokenizer.decode(tokenizer("naïve 写真").input_ids, skip_special_tokens=True) == "naïve 写真"
    padded = tokenizer("photo", padding="max_length", truncation=True).input_ids
    assert len(padded) == 77 == from_folder.text_encoder.config.max_position_embeddings
    assert max(padded) == from_folder.text_encoder.config.vocab_size - 1


def test_equal_seeds_give_equal_files(tmp_path: Path, miniature: Path, miniature_file: Path) -> None:
    again = miniature_base(tmp_path / "again")
    other = miniature_base(tmp_path / "other", seed=1)
    names = sorted(path.relative_to(miniature) for path in miniature.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((again / name).read_bytes() == (miniature / name).read_bytes() for name in names)
    assert miniature_single_file(again, tmp_path / "again.safetensors").read_bytes() == miniature_file.read_bytes()
    assert miniature_single_file(other, tmp_path / "other.safetensors").read_bytes() != miniature_file.read_bytes()


@pytest.mark.parametrize(
    ("layers", "attentive"),
    [(1, (True, False)), (1, (False, True)), (3, (True, True, False)), (2, (False, True, True))],
)
def test_the_names_hold_for_other_layouts(layers: int, attentive: tuple[bool, ...], tmp_path: Path) -> None:
    unet = UNet2DConditionModel(
        down_block_types=["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attentive],
        up_block_types=["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attentive)],
        block_out_channels=(8, 16, 16)[: len(attentive)],
        layers_per_block=layers,
        attention_head_dim=2,
        cross_attention_dim=8,
        norm_num_groups=4,
    )
    unet.save_config(tmp_path / "unet")
    read = UNet2DConditionModel.from_single_file(
        unet_to_compvis(unet.state_dict()), config=str(tmp_path), subfolder="unet", local_files_only=True
    ).state_dict()
    assert read.keys() == unet.state_dict().keys()
    assert all(torch.equal(read[key], value) for key, value in unet.state_dict().items())
