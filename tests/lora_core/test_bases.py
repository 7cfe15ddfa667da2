"""Bases in both file layouts open as the same model; what is no base is refused by name before anything is loaded."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_core.bases import base_digest, check_base
from lora_core.bases.stable_diffusion import open_base
from lora_core.errors import BaseModelError
from lora_core.experiment import BaseModelSection

CPU = torch.device("cpu")


def test_folder_and_original_single_file_open_as_the_same_model(miniature, miniature_file):
    folder = open_base(BaseModelSection(model=str(miniature)), CPU)
    single = open_base(BaseModelSection(model=str(miniature_file), config=str(miniature)), CPU)
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(single, part).state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in getattr(folder, part).state_dict().items())
    assert (folder.factor, folder.multiple) == (single.factor, single.multiple) == (8, 64)
    latents, text = torch.randn(1, 4, 8, 8), folder.encode_prompt(["a photo"])
    with torch.no_grad():
        answers = [base.predict(latents, torch.tensor([99]), text) for base in (folder, single)]
    # Equal weights may lie in memory in another order, for which a processor may take another way to add up.
    torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_the_autoencoder_in_float32(miniature, precision):
    base = open_base(BaseModelSection(model=str(miniature), precision=precision), CPU)
    assert base.vae.dtype == torch.float32
    assert base.unet.dtype == base.text_encoder.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def test_digest_follows_the_content(miniature, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(miniature, copy)
    original, same = (base_digest(BaseModelSection(model=str(path))) for path in (miniature, copy))
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("1000", "999"))
    assert original == same != base_digest(BaseModelSection(model=str(copy)))


def truncated(path):
    whole = (
        struct.pack("<Q", 64)
        + json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).ljust(64).encode()
    )
    path.write_bytes(whole + b"\0" * 8)


def no_unet(path):
    save_file({"first_stage_model.x": torch.zeros(1)}, path)


def only_unet(path):
    save_file({"model.diffusion_model.x": torch.zeros(1)}, path)


def lora(path):
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(1)}, path)


def text(path):
    path.write_text("not a model")


@pytest.mark.parametrize(("name", "make", "reason"), [
    ("a.safetensors", truncated, "not a whole .safetensors file"),
    ("b.safetensors", text, "not a whole .safetensors file"),
    ("c.safetensors", no_unet, "holds no UNet"),
    ("d.safetensors", only_unet, "holds no autoencoder"),
    ("e.safetensors", lora, "is a LoRA"),
    ("f.ckpt", text, "pickled checkpoints are refused"),
    ("folder", lambda path: path.mkdir(), "no model_index.json"),
])  # fmt: skip
def test_what_is_no_base_is_refused_by_name(tmp_path, name, make, reason):
    make(tmp_path / name)
    with pytest.raises(BaseModelError, match=reason) as error:
        check_base(BaseModelSection(model=str(tmp_path / name)))
    assert name in str(error.value)


@pytest.mark.parametrize(("part", "change", "reason"), [
    ("model_index.json", lambda path: path.write_text('{"_class_name": "FluxPipeline"}'), "is a FluxPipeline"),
    ("unet", lambda path: shutil.rmtree(path), "lacks the folder unet/"),
    ("vae/diffusion_pytorch_model.safetensors", lambda path: path.rename(path.with_suffix(".bin")), "pickled weights"),
])  # fmt: skip
def test_an_incomplete_folder_is_refused_by_name(miniature, tmp_path, part, change, reason):
    copy = tmp_path / "copy"
    shutil.copytree(miniature, copy)
    change(copy / part)
    with pytest.raises(BaseModelError, match=reason):
        check_base(BaseModelSection(model=str(copy)))


@pytest.mark.parametrize("model", ["model/missing.safetensors", "/nowhere/base", "someone/no-such-base"])
def test_a_base_that_is_not_there_is_named(model):
    with pytest.raises(BaseModelError, match=model):
        check_base(BaseModelSection(model=model))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folder_that_lacks_a_weight_is_refused_by_name(miniature, tmp_path, part):
    copy = tmp_path / "copy"
    shutil.copytree(miniature, copy)
    file = next((copy / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = sorted(name for name in tensors if name.endswith("weight"))[0]
    del tensors[name]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=f"lacks 1 weights, {part}.{name.removeprefix('text_model.')}"):
        open_base(BaseModelSection(model=str(copy)), CPU)
