"""Each format is read by the library it is for as the same update, and back by us; others' files are read as theirs."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from lora_core.formats.reading import read_lora
from lora_core.formats.weights import LoraWeights
from lora_core.formats.writing import write_lora
from tests.lora_core.formats.made_up import EVEN, MIXED, made_up, open_miniature, same, shapes_of

TARGETS = {"kohya": "lora.safetensors", "diffusers": "diffusers", "peft": "peft"}


@pytest.fixture(scope="module")
def shapes(miniature: Path) -> dict[str, torch.Size]:
    return shapes_of(open_miniature(miniature))


def layers(pipeline: StableDiffusionPipeline) -> dict[str, BaseTunerLayer]:
    return {
        f"{part}.{name.removeprefix('base_model.model.')}": module
        for part, model in (("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder))
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def loaded(miniature: Path, path: Path, form: str) -> StableDiffusionPipeline:
    pipeline = open_miniature(miniature)
    if form == "peft":
        pipeline.unet = PeftModel.from_pretrained(pipeline.unet, path)
        if (path / "text_encoder").exists():
            pipeline.text_encoder = PeftModel.from_pretrained(pipeline.text_encoder, path / "text_encoder")
    else:
        pipeline.load_lora_weights(str(path))
    return pipeline


def assert_same_update(pipeline: StableDiffusionPipeline, weights: LoraWeights) -> None:
    found = layers(pipeline)
    assert sorted(found) == weights.modules()
    for name, layer in found.items():
        (adapter,) = layer.r
        torch.testing.assert_close(layer.get_delta_weight(adapter), weights.delta(name), atol=1e-6, rtol=1e-5)


def prediction(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = pipeline.text_encoder(torch.arange(7)[None])[0]
        return pipeline.unet(latents, torch.tensor([500]), encoder_hidden_states=text).sample


@pytest.mark.parametrize("alphas", [EVEN, MIXED], ids=["one alpha", "mixed alphas"])
@pytest.mark.parametrize("form", list(TARGETS))
def test_every_module_gets_the_same_update_in_its_library_and_back(miniature, shapes, tmp_path, form, alphas):
    weights = made_up(shapes, ranks=(2, 4, 4), alphas=alphas)
    path = tmp_path / TARGETS[form]
    write_lora(weights, path, form)
    assert_same_update(loaded(miniature, path, form), weights)
    again = read_lora(path)
    assert same(weights, again, tolerance=1e-6)
    if form != "kohya" or alphas == EVEN:
        assert again.alphas == weights.alphas
        assert all(torch.equal(again.tensors[key], value) for key, value in weights.tensors.items())


def test_dora_is_the_same_in_diffusers_and_peft_and_needs_its_magnitudes(miniature, shapes, tmp_path):
    weights = made_up(shapes, dora=True)
    answers = {}
    for form in ("diffusers", "peft"):
        write_lora(weights, tmp_path / form, form)
        answers[form] = prediction(loaded(miniature, tmp_path / form, form))
        again = read_lora(tmp_path / form)
        assert again.dora and again.tensors.keys() == weights.tensors.keys()
        assert all(torch.equal(again.tensors[key], value) for key, value in weights.tensors.items())
    torch.testing.assert_close(answers["diffusers"], answers["peft"], atol=1e-5, rtol=1e-4)
    assert (answers["peft"] - prediction(open_miniature(miniature))).abs().max() > 0.01


def test_a_kohya_file_comes_back_as_the_same_bytes(shapes, tmp_path):
    digest = write_lora(made_up(shapes), tmp_path / "one.safetensors", "kohya", {"ss_b": "2", "ss_a": "1"})
    once = read_lora(tmp_path / "one.safetensors")
    assert write_lora(once, tmp_path / "two.safetensors", "kohya", {"ss_a": "1", "ss_b": "2"}) == digest
    assert once.metadata["ss_a"] == "1" and len(once.metadata["sshs_model_hash"]) == 64
    keys = load_file(tmp_path / "one.safetensors")
    assert {key.split("_")[1] for key in keys} == {"unet", "te"} and "text_model" in "".join(keys)
    assert keys["lora_unet_mid_block_attentions_0_proj_in.alpha"].dtype == torch.float32


@pytest.mark.parametrize("config", [
    {"r": 4, "lora_alpha": 2},
    {"r": 4, "lora_alpha": 3, "use_rslora": True, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"attn1.to_k": 7}},
], ids=["plain", "rslora with patterns"])  # fmt: skip
def test_what_peft_and_diffusers_saved_is_read_as_they_scale_it(miniature, tmp_path, config):
    pipeline = open_miniature(miniature)
    targets = ["to_q", "to_k", "to_out.0", "conv1", "proj_in"]
    torch.manual_seed(0)
    unet = get_peft_model(pipeline.unet, LoraConfig(target_modules=targets, init_lora_weights=False, **config))
    unet.save_pretrained(tmp_path / "peft")
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "diffusers",
        unet_lora_layers=convert_state_dict_to_diffusers(
            {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(unet).items()}
        ),
        unet_lora_adapter_metadata={
            key: sorted(value) if isinstance(value, set) else value
            for key, value in unet.peft_config["default"].to_dict().items()
        },
    )
    for folder in ("peft", "diffusers"):
        assert_same_update(pipeline, read_lora(tmp_path / folder))
    assert read_lora(tmp_path / "peft" / "adapter_model.safetensors").modules()  # the file finds its configuration


def test_older_diffusers_names_are_read_as_diffusers_reads_them(miniature, shapes, tmp_path):
    attention = {name: shape for name, shape in shapes.items() if re.search(r"attn|self_attn", name)}
    weights = made_up(attention, ranks=(4,), alphas=(4.0,))
    old = {}
    for key, value in weights.tensors.items():
        key = key.replace("text_encoder.", "text_encoder.text_model.").replace("to_out.0", "to_out")
        key = re.sub(r"([qkv]|out)_proj\.lora", r"to_\1.lora", key)
        key = re.sub(r"(attn[12])\.(to_\w+)\.lora", r"\1.processor.\2.lora", key)
        old[key.replace(".lora_A.weight", "_lora.down.weight").replace(".lora_B.weight", "_lora.up.weight")] = value
    (tmp_path / "old").mkdir()
    save_file(old, tmp_path / "old" / "pytorch_lora_weights.safetensors", {"format": "pt"})
    assert same(weights, read_lora(tmp_path / "old"))
    assert_same_update(loaded(miniature, tmp_path / "old", "diffusers"), weights)


def test_alpha_keys_no_alpha_and_both_spellings_of_the_text_encoder(tmp_path):
    path = tmp_path / "lora.safetensors"
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    matrices = {f"{module}.lora_A.weight": torch.ones(2, 3), f"{module}.lora_B.weight": torch.ones(4, 2)}
    save_file(matrices, path)
    assert read_lora(path).alphas == {module: 2.0}
    save_file({**matrices, f"{module}.alpha": torch.tensor(0.5)}, path)
    assert read_lora(path).scale(module) == 0.25
    for prefix in ("lora_te_", "lora_te1_"):
        name = f"{prefix}text_model_encoder_layers_3_mlp_fc1"
        given = {f"{name}.lora_down.weight": torch.ones(2, 3).half(), f"{name}.lora_up.weight": torch.ones(4, 2).half()}
        for alpha, scale in ((None, 1.0), (0.0, 1.0), (0.5, 0.25)):
            extra = {} if alpha is None else {f"{name}.alpha": torch.tensor(alpha)}
            save_file(given | extra, path)
            weights = read_lora(path)
            assert weights.modules() == ["text_encoder.encoder.layers.3.mlp.fc1"]
            assert weights.delta(weights.modules()[0]).dtype == torch.float32
            assert weights.scale(weights.modules()[0]) == scale


def test_what_was_read_does_not_hang_on_the_file(tmp_path):
    path = tmp_path / "lora.safetensors"
    write_lora(made_up({"unet.mid_block.attentions.0.proj_in": torch.Size((64, 64))}), path, "kohya")
    weights = read_lora(path)
    before = weights.delta(weights.modules()[0])
    with path.open("r+b") as file:  # the library maps the file, and its pages change with it
        file.write(bytes(path.stat().st_size))
    assert torch.equal(weights.delta(weights.modules()[0]), before)


def test_the_condition_channel_goes_beside_and_comes_back(tmp_path):
    weights = made_up({"unet.mid_block.attentions.0.proj_in": torch.Size((4, 4, 1, 1))})
    control = {"conv_in.weight": torch.randn(6, 8, 3, 3), "conv_in.bias": torch.randn(6)}
    wide = LoraWeights(weights.tensors, weights.alphas, control)
    for form in ("diffusers", "peft"):
        write_lora(wide, tmp_path / form, form, dtype="bf16")
        for path in (tmp_path / form, *(tmp_path / form).glob("*weights.safetensors")):
            again = read_lora(path).control
            assert again.keys() == control.keys() and all(torch.equal(again[key], control[key]) for key in control)
        write_lora(weights, tmp_path / form, form)
        assert not read_lora(tmp_path / form).control


def test_a_diffusers_file_has_what_scales_no_version_and_the_names_that_comfyui_knows(tmp_path):
    modules = ("unet.mid_block.attentions.0.proj_in", "text_encoder.encoder.layers.0.mlp.fc1")
    write_lora(made_up({module: torch.Size((4, 4)) for module in modules}), tmp_path / "d", "diffusers")
    names = load_file(tmp_path / "d" / "pytorch_lora_weights.safetensors")
    assert "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight" in names
    config = json.loads(read_lora(tmp_path / "d").metadata["lora_adapter_metadata"])
    assert config["unet.lora_alpha"] == 1.5 and config["unet.r"] == 4
    assert config["unet.target_modules"] == ["mid_block.attentions.0.proj_in"] and "unet.peft_version" not in config
