"""Files that are no LoRA for SD 1.x and 2.x, and LoRAs that a format cannot hold: each refused by its own message."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_core.errors import ConfigError, DataError
from lora_core.formats.reading import read_lora
from lora_core.formats.weights import LoraWeights
from lora_core.formats.writing import write_lora
from tests.lora_core.formats.made_up import SMALL, made_up

NAME = "lora_unet_mid_block_attentions_0_proj_in"
GOOD = {f"{NAME}.lora_down.weight": torch.ones(2, 3), f"{NAME}.lora_up.weight": torch.ones(4, 2)}
MODULE = "unet.mid_block.attentions.0.proj_in"
DIFFUSERS = {f"{MODULE}.lora_A.weight": torch.ones(2, 3), f"{MODULE}.lora_B.weight": torch.ones(4, 2)}
ONE = torch.ones(2, 2)
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}


@pytest.mark.parametrize(("tensors", "reason"), [
    ({}, "is empty: it holds no tensor"),
    ({"model.diffusion_model.out.2.weight": ONE}, "is a base model, not a LoRA"),
    ({"conv_in.weight": ONE, "conv_out.weight": torch.ones(2)}, "is no LoRA: none of its 2 tensors"),
    ({"emb_params": ONE}, "is a textual inversion"),
    ({f"{NAME}.hada_w1_a": ONE}, "is a LoHa (LyCORIS)"),
    ({f"{NAME}.lokr_w1": ONE}, "is a LoKr (LyCORIS)"),
    ({f"{NAME}.oft_diag": ONE}, "is an OFT"),
    ({f"{NAME}.diff": ONE}, "is a full difference of weights"),
    (GOOD | {f"{NAME}.lora_mid.weight": ONE}, "is a LoCon in CP decomposition"),
    (GOOD | {"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": ONE}, "is for SDXL (lora_te2_"),
    ({"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": ONE}, "is for SDXL (lora_unet_input_blocks_4_1"),
    ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": ONE}, "is for FLUX"),
    ({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": ONE}, "is for a transformer (FLUX, SD 3"),
    ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": torch.ones(2, 2048),
      "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": torch.ones(4, 2)},
     "is for SDXL (unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k reads text 2048 wide)"),
    ({f"{NAME}n.lora_down.weight": ONE}, f"unknown module '{NAME}n'; did you mean '{NAME}'?"),
    (GOOD | {f"{NAME}.lora_sideways.weight": ONE}, "lora_sideways.weight has no known meaning"),
    (GOOD | {"conv_norm_out.weight": ONE}, "unknown module 'conv_norm_out'"),
    ({f"{NAME}.lora_down.weight": ONE}, f"{MODULE} has matrix A (down) but no B (up)"),
    (GOOD | {"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "unet.conv_in has an alpha or a magnitude but no"),
    (GOOD | {f"{NAME}.lora_up.weight": torch.ones(4, 3)}, "shapes that do not fit: A (2, 3), B (4, 3)"),
    (GOOD | {f"{NAME}.lora_up.weight": torch.full((4, 2), torch.nan)}, "lora_B.weight holds NaN or infinity"),
    (GOOD | {f"{NAME}.alpha": torch.tensor(torch.inf)}, f"{MODULE} has alpha inf"),
    (GOOD | {f"{NAME}.alpha": torch.ones(3)}, "alpha holds 3 values"),
    (GOOD | {f"{NAME}.lora_down.weight": torch.ones(2, 3, dtype=torch.int32)}, "holds int32, not floating point"),
    (GOOD | {f"{NAME}.dora_scale": torch.ones(1, 3)}, "is DoRA normalised over the inputs"),
    (GOOD | {f"{NAME}.dora_scale": torch.ones(5, 1)}, "has 5 DoRA magnitudes for 4 output channels"),
    ({f"lora_te{one}_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0) for one in ("", "1")},
     "is given twice, as lora_te_ and as lora_te1_"),
    (DIFFUSERS | {"unet.mid_block.atentions.0.proj_in.lora_A.weight": ONE},
     "unknown key 'unet.mid_block.atentions.0.proj_in.lora_A.weight'; did you mean 'unet.mid_block.attentions.0."),
    (DIFFUSERS | {f"{MODULE}.lora_B.bias": ONE}, "is a LoRA with biases"),
    (DIFFUSERS | {f"{MODULE}.lora.down.weight": ONE}, f"gives {MODULE} a second time"),
    ({f"base_model.model.{key}": value for key, value in DIFFUSERS.items()}, "config.json, which is not beside"),
])  # fmt: skip
def test_a_file_that_is_no_lora_of_ours_says_what_it_is(tmp_path: Path, tensors, reason):
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path)
    with pytest.raises(DataError, match=re.escape(reason)) as raised:
        read_lora(path)
    assert str(path) in str(raised.value)


def _truncated(path: Path) -> Path:
    save_file(GOOD, path)
    path.write_bytes(path.read_bytes()[:-4])
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _folder(path: Path, **files: object) -> Path:
    """A folder with JSON files, or with the tensors where the name says weights."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        if name.startswith("adapter_model"):
            save_file(content, path / f"{name}.safetensors")
        else:
            (path / f"{name}.json").write_text(json.dumps(content))
    return path


def _metadata(path: Path, value: str) -> Path:
    save_file(DIFFUSERS, path, {"lora_adapter_metadata": value})
    return path


def _peft(folder: Path, **changes: object) -> Path:
    return _folder(folder, adapter_config=CONFIG | changes, adapter_model=PEFT)


PEFT = {f"base_model.model.{key.removeprefix('unet.')}": value for key, value in DIFFUSERS.items()}


@pytest.mark.parametrize(("make", "reason"), [
    (lambda folder: folder / "lora.safetensors", "lora.safetensors does not exist"),
    (lambda folder: _written(folder / "lora.ckpt", b"x"), "is a pickle, which can run code when opened"),
    (lambda folder: _written(folder / "lora.txt", b"x"), "only .safetensors files are read"),
    (lambda folder: _written(folder / "lora.safetensors", b""), "is empty; download it again"),
    (lambda folder: _written(folder / "lora.safetensors", b"PK\x03\x04rest"), "is a pickle or zip archive under"),
    (lambda folder: _written(folder / "lora.safetensors", b"<!DOCTYPE html>"), "is a web page, not the file"),
    (lambda folder: _written(folder / "lora.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    (lambda folder: _truncated(folder / "lora.safetensors"), "is not a whole .safetensors file"),
    (lambda folder: folder, "neither a diffusers nor a PEFT folder"),
    (lambda folder: _truncated(folder / "mine.safetensors").parent, "name one of its files: mine.safetensors"),
    (lambda folder: _written(folder / "adapter_model.bin", b"x").parent, "adapter_model.bin is a pickle"),
    (lambda folder: _folder(folder, model_index={}), "is a base model, not a LoRA"),
    (lambda folder: _folder(folder, adapter_config=CONFIG), "adapter_model.safetensors does not exist"),
    (lambda folder: _folder(folder, adapter_config=[]), "adapter_config.json is no JSON object"),
    (lambda folder: _folder(folder, adapter_config={**CONFIG, "peft_type": "LOHA"}), "peft_type is LOHA"),
    (lambda folder: _peft(folder, init_lora_weights="pissa_niter_4"), "is pissa_niter_4, which changes the base"),
    (lambda folder: _peft(folder, modules_to_save=["conv_out"]), "modules_to_save is set; only plain LoRA"),
    (lambda folder: _peft(folder, lora_alpha="2"), "lora_alpha of mid_block.attentions.0.proj_in is '2', not a number"),
    (lambda folder: _peft(folder, lora_alpha=0), "is 0, which switches its update off"),
    (lambda folder: _peft(folder, alpha_pattern={"(": 1}), "alpha_pattern '(' is no regular expression"),
    (lambda folder: _metadata(folder / "lora.safetensors", "[]"), "is no JSON object"),
    (lambda folder: _metadata(folder / "lora.safetensors", '{"unet.peft_type": "LOKR"}'), "peft_type is LOKR"),
])  # fmt: skip
def test_a_path_that_holds_no_lora_says_why(tmp_path: Path, make, reason):
    with pytest.raises(DataError, match=re.escape(reason)):
        read_lora(make(tmp_path))


WIDE = {"conv_in.weight": torch.zeros(4, 8, 3, 3)}


@pytest.mark.parametrize(("form", "name", "change", "dtype", "reason"), [
    ("kohya", "x.safetensors", "dora", "fp32", "a kohya file cannot hold DoRA .* write --format diffusers or peft"),
    ("kohya", "x.safetensors", "control", "fp32", "a kohya file cannot hold the condition channel"),
    ("kohya", "x.safetensors", "strange", "fp32", "unet.tower.0.proj has no name in kohya's format"),
    ("kohya", "x.safetensors", "large", "fp16", "has values that fp16 cannot hold; write --dtype bf16 or fp32"),
    ("kohya", "x", "plain", "fp32", r"a kohya file is named \*.safetensors"),
    ("diffusers", "x.safetensors", "plain", "fp32", "a diffusers LoRA is a folder; leave out .safetensors"),
    ("peft", "photos", "plain", "fp32", r"photos holds other files \(cat.png\) and would be replaced"),
    ("diffusers", "file", "plain", "fp32", "file is a file; a diffusers LoRA is a folder"),
])  # fmt: skip
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path, form, name, change, dtype, reason):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"a cat")
    (tmp_path / "file").write_bytes(b"a file")
    weights = made_up(SMALL, dora=change == "dora", scale=1e4 if change == "large" else 0.1)
    if change == "large":
        weights = LoraWeights({key: 1e2 * value for key, value in weights.tensors.items()}, weights.alphas)
    if change == "control":
        weights = LoraWeights(weights.tensors, weights.alphas, WIDE)
    if change == "strange":
        weights = made_up({"unet.tower.0.proj": torch.Size((3, 3))})
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=reason):
        write_lora(weights, tmp_path / name, form, dtype=dtype)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_broken_condition_channel_is_refused(tmp_path):
    for control, reason in (
        ({"conv_out.weight": ONE}, "conv_in.weight and conv_in.bias, not"),
        ({"conv_in.weight": torch.zeros(4, 7, 3, 3)}, r"shape \(4, 7, 3, 3\)"),
        ({"conv_in.weight": torch.full((4, 8, 3, 3), torch.nan)}, "condition channel holds NaN"),
    ):
        write_lora(made_up(SMALL), tmp_path / "lora", "diffusers")
        save_file(control, tmp_path / "lora" / "control.safetensors")
        with pytest.raises(DataError, match=reason):
            read_lora(tmp_path / "lora")
