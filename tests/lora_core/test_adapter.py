"""Every kind of adapter starts as the bare base, trains, and is read back by diffusers as the same update."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0

from lora_core.bases.attention import WideHeads
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.control import control_state
from lora_core.errors import BaseModelError, ConfigError
from lora_core.experiment import AdapterSection, BaseModelSection, apply_overrides, load_preset
from lora_core.lora import Adapter, attach, load_lora, save_lora, warm_start

SMALL = {"rank": 4, "alpha": 2.0, "layers": "attention-ff"}
KINDS = {
    "dora": {"dora": True, "formats": "diffusers", "layers": "all"},
    "rslora": {"rslora": True},
    "blocks": {"block_ranks": ("mid_block=8", r"up_blocks\.3=2:5")},
    "pattern": {"layer_pattern": r"attn2\.to_[kv]$"},
    "text": {"text_encoder": True, "layers": "all"},
}


def adapter(miniature, control: bool = False, **values) -> Adapter:
    base = open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))
    return attach(base, AdapterSection(**{**SMALL, **values}), seed=0, control=control)


def ask(made: Adapter, condition: torch.Tensor | None = None) -> torch.Tensor:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    text = made.base.encode_prompt(["a photo"]).expand(2, -1, -1)
    return made.base.predict(latents, torch.tensor([99, 500]), text, condition)


def disturb(made: Adapter) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_starts_as_the_base_and_diffusers_reads_the_same_update(miniature, tmp_path, kind):
    made = adapter(miniature, **KINDS[kind])
    with made.disabled():
        bare = ask(made)
    torch.testing.assert_close(ask(made), bare, atol=1e-5, rtol=0)
    disturb(made)
    row = save_lora(made, tmp_path / "checkpoints" / "mini", {})
    assert (row["kohya"] is None) == (kind == "dora")
    again = adapter(miniature, **KINDS[kind])
    again.load(load_lora(tmp_path / row["diffusers"]))
    assert torch.equal(ask(again), ask(made)) and (ask(made) - bare).abs().max() > 0.01
    pipeline = StableDiffusionPipeline(
        **open_pipeline(BaseModelSection(model=str(miniature))).components, requires_safety_checker=False
    )
    for file in filter(None, (row["diffusers"], row["kohya"])):
        pipeline.load_lora_weights(str(tmp_path / file))
        theirs = replace(again.base, unet=pipeline.unet, text_encoder=pipeline.text_encoder)
        read = ask(Adapter(theirs, again.section, {}, {}))
        torch.testing.assert_close(read, ask(again), atol=1e-4, rtol=0)
        pipeline.unload_lora_weights()


def test_attention_is_torchs_own(miniature):
    """Scaled dot product attention, with and without a LoRA in it, of narrow heads padded; no slower one slips in."""
    narrow = adapter(miniature, layers="all").base.unet.attn_processors.values()
    assert narrow and {type(one) for one in narrow} == {WideHeads}
    wide = adapter("pocket", layers="all").base.unet.attn_processors.values()
    assert wide and {type(one) for one in wide} == {AttnProcessor2_0}


def test_ranks_and_alphas_follow_the_patterns(miniature):
    made = adapter(miniature, **KINDS["blocks"])
    for name, layer in made.layers.items():
        expected = (8, 4.0) if "mid_block" in name else (2, 5.0) if "up_blocks.3" in name else (4, 2.0)
        assert (layer.r["default"], made.alphas()[name]) == expected
    assert set(adapter(miniature, **KINDS["pattern"]).layers) == {
        name for name in made.layers if name.endswith(("attn2.to_k", "attn2.to_v"))
    }


@pytest.mark.parametrize(("values", "reason"), [
    ({"layer_pattern": "to_nowhere"}, "layer_pattern: 'to_nowhere' fits no"),
    ({"block_ranks": ("down_blocks.9=4",)}, "block_ranks: 'down_blocks.9' fits none"),
])  # fmt: skip
def test_a_pattern_that_fits_nothing_is_named(miniature, values, reason):
    with pytest.raises(ConfigError, match=reason):
        adapter(miniature, **values)


@pytest.mark.parametrize(("setting", "reason"), [
    ("adapter.block_ranks=[mid_block]", "'mid_block' is not pattern=rank"),
    ("adapter.block_ranks=['mid_block=900']", "at most 512"),
    ("adapter.layer_pattern='to_(q'", "not a regular expression"),
    ("adapter.dora=true", "set adapter.formats=diffusers"),
    ("objective.control=true", "kind=bridge or kind=denoise"),
    ("training.optimizer=schedule-free-adamw", "training.scheduler=constant"),
    ("training.sharding=fsdp", "training.processes above 1"),
])  # fmt: skip
def test_contradictory_settings_are_refused(setting, reason):
    with pytest.raises(ConfigError, match=reason):
        apply_overrides(load_preset("pocket"), [setting])


def test_contradictions_between_sections_are_refused():
    settings = ["objective.control=true", "objective.kind=bridge"]
    with pytest.raises(ConfigError, match=r"kohya file cannot hold the widened conv_in"):
        apply_overrides(load_preset("pocket"), settings)
    assert apply_overrides(load_preset("pocket"), [*settings, "adapter.formats=diffusers"]).objective.control
    with pytest.raises(ConfigError, match=r"prodigy .*fp16.*bf16"):
        apply_overrides(load_preset("pocket"), ["base.precision=fp16", "training.optimizer=prodigy"])


@torch.no_grad()
def test_the_condition_starts_without_effect_and_is_restored_with_the_lora(miniature, tmp_path):
    made = adapter(miniature, control=True, formats="diffusers")
    condition = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(ask(made, condition), ask(made), atol=1e-6, rtol=0)
    disturb(made)
    assert (ask(made, condition) - ask(made, -condition)).abs().max() > 0.01
    with made.disabled():
        assert torch.equal(ask(made, condition), ask(made, -condition))
    row = save_lora(made, tmp_path / "checkpoints" / "mini", {})
    again = adapter(miniature, control=True, formats="diffusers")
    again.load(load_lora(tmp_path / row["diffusers"]))
    assert torch.equal(ask(again, condition), ask(made, condition))
    # The digest names the condition too, which lies in a file of its own.
    made.control.condition.weight.data += 1
    assert save_lora(made, tmp_path / "checkpoints" / "other", {})["digest"] != row["digest"]
    wide = control_state(made.control)["conv_in.weight"]
    assert wide.shape[1] == 8 and torch.equal(wide[:, :4], made.base.unet.conv_in.latents.weight)
    with pytest.raises(BaseModelError, match="condition channel does not fit"):
        made.load(load_lora(_without_control(made, tmp_path)))


def _without_control(made: Adapter, folder):
    plain = Adapter(made.base, made.section, made.unet, made.text_encoder)
    save_lora(plain, folder / "checkpoints" / "plain", {})
    return folder / "checkpoints" / "plain"


@torch.no_grad()
def test_a_warm_start_is_the_same_update_whatever_its_alpha(miniature, tmp_path):
    made = adapter(miniature)
    disturb(made)
    save_lora(made, tmp_path / "checkpoints" / "mini", {})
    weights = load_lora(tmp_path / "checkpoints" / "mini")
    other = adapter(miniature, alpha=16.0)
    warm_start(other, weights)
    torch.testing.assert_close(ask(other), ask(made), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match=r"adapter.warm_start: .*rank 4 there and 8 here.*--rank 8"):
        warm_start(adapter(miniature, rank=8), weights)
    with pytest.raises(ConfigError, match=r"adapter.warm_start: .*does not fit"):
        warm_start(adapter(miniature, layers="all"), weights)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["rank_dropout", "module_dropout", "dropout"])
def test_dropout_acts_in_training_alone_and_keeps_the_mean(miniature, kind):
    made = adapter(miniature, layer_pattern=r"mid_block.*attn1\.to_v$", **{kind: 0.5})
    disturb(made)
    layer = next(iter(made.layers.values()))
    x = torch.randn(64, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
    layer.eval()
    whole = layer(x) - layer.base_layer(x)
    layer.train()
    torch.manual_seed(0)
    draws = torch.stack([layer(x) - layer.base_layer(x) for _ in range(400)])
    expected = whole / 2 if kind == "module_dropout" else whole  # modules that are kept are not scaled up
    assert draws.std(0).max() > 0
    torch.testing.assert_close(draws.mean(0), expected, atol=float(6 * draws.std(0).max() / 20), rtol=0)
    torch.manual_seed(3)
    one = layer(x)
    torch.manual_seed(3)
    assert torch.equal(one, layer(x))
