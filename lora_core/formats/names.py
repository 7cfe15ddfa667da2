"""Module paths of Stable Diffusion 1.x and 2.x, and their names in kohya's files.

kohya writes every dot as an underscore, and module words have underscores of their own (`to_q`, `time_emb_proj`), so
the way back needs to know the words. `down_blocks_0_attentions_0_proj_in` is first held against the grammar of the
UNet, then cut into its words. A name that the grammar does not know is refused; guessing would give a LoRA that
silently does nothing there.
"""

import re
from itertools import product

from lora_core.settings import nearest

_TRANSFORMER = r"transformer_blocks_\d+_(?:attn[12]_(?:to_[qkv]|to_out_0)|ff_net_(?:0_proj|2))"
_UNET = re.compile(
    r"(?:(?:down|up)_blocks_\d+|mid_block)_(?:"
    rf"attentions_\d+_(?:proj_in|proj_out|{_TRANSFORMER})"
    r"|resnets_\d+_(?:conv1|conv2|conv_shortcut|time_emb_proj)"
    r"|(?:down|up)samplers_\d+_conv)"
    r"|conv_in|conv_out|time_embedding_linear_[12]"
)
_TEXT = re.compile(r"text_model_encoder_layers_\d+_(?:self_attn_(?:q|k|v|out)_proj|mlp_fc[12])")
# Longest first: a word ends where the next begins.
_WORD = re.compile(
    r"down_blocks|up_blocks|mid_block|transformer_blocks|time_embedding|time_emb_proj|conv_shortcut|conv_in|conv_out"
    r"|proj_in|proj_out|linear_[12]|to_[qkv]|to_out|self_attn|[qkv]_proj|out_proj|text_model|[a-z]+[12]?|\d+"
)
_UNET_PREFIX, _TEXT_PREFIX = "lora_unet_", "lora_te_"
_TEXT_SPELLINGS = (_TEXT_PREFIX, "lora_te1_")  # the second is SDXL's, which diffusers' converter writes for SD 1.x too


def is_known(module: str) -> bool:
    """Whether 'unet.…' or 'text_encoder.…' is a module of SD 1.x and 2.x that can carry a LoRA."""
    try:
        return from_kohya_name(to_kohya_name(module)) == module
    except ValueError:
        return False


def to_kohya_name(module: str) -> str:
    """'unet.mid_block.attentions.0.proj_in' to 'lora_unet_mid_block_attentions_0_proj_in'.

    Raises:
        ValueError: neither 'unet.' nor 'text_encoder.' stands first.
    """
    part, _, path = module.partition(".")
    if part == "unet":
        return _UNET_PREFIX + path.replace(".", "_")
    if part == "text_encoder":
        return f"{_TEXT_PREFIX}text_model_{path.replace('.', '_')}"
    raise ValueError(f"unknown module {module}")


def from_kohya_name(name: str) -> str:
    """The way back.

    Raises:
        ValueError: no module of SD 1.x or 2.x has this name; the message names the nearest that has.
    """
    if name.startswith(_UNET_PREFIX) and _UNET.fullmatch(words := name.removeprefix(_UNET_PREFIX)):
        return f"unet.{_dotted(words)}"
    for prefix in _TEXT_SPELLINGS:
        if name.startswith(prefix) and _TEXT.fullmatch(words := name.removeprefix(prefix)):
            return f"text_encoder.{_dotted(words).removeprefix('text_model.')}"
    raise ValueError(f"unknown module '{name}'{nearest(name, [to_kohya_name(module) for module in usual_modules()])}")


def usual_modules() -> list[str]:
    """Modules of SD 1.5's shape, four levels and twelve text layers; for hints, not for recognition."""
    levels = [f"{way}_blocks.{level}" for way in ("down", "up") for level in range(4)] + ["mid_block"]
    inner = [f"attn{number}.{name}" for number in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
    inner += ["ff.net.0.proj", "ff.net.2"]
    attention = ["proj_in", "proj_out", *(f"transformer_blocks.0.{name}" for name in inner)]
    unet = [f"{level}.attentions.{layer}.{name}" for level, layer, name in product(levels, range(3), attention)]
    residual = ["conv1", "conv2", "conv_shortcut", "time_emb_proj"]
    unet += [f"{level}.resnets.{layer}.{name}" for level, layer, name in product(levels, range(3), residual)]
    unet += [f"{level}.{level.split('_')[0]}samplers.0.conv" for level in levels if level != "mid_block"]
    unet += ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
    text = [*(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2"]
    layers = [f"encoder.layers.{layer}.{name}" for layer, name in product(range(12), text)]
    return [*(f"unet.{path}" for path in unet), *(f"text_encoder.{path}" for path in layers)]


def _dotted(words: str) -> str:
    return ".".join(_WORD.findall(words))
