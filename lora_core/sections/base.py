"""The base model."""

from typing import Literal

from lora_core.settings import Section, field


class BaseModelSection(Section):
    """The base model that every round starts from."""

    model: str = field(0, "pocket", "'pocket', a diffusers folder, a .safetensors file, or a Hugging Face hub id")
    revision: str | None = field(1, None, "Revision of a hub id: branch, tag or commit")
    config: str | None = field(
        2, None, "For a .safetensors file: folder or hub id with its configuration and tokenizer (default: SD 1.5's)"
    )
    precision: Literal["fp32", "bf16", "fp16"] = field(3, "fp32", "Arithmetic of the frozen base; LoRA stays fp32")
    quantise: Literal["none", "int8", "nf4"] = field(
        4, "none", "Frozen base in 8 or 4 bits by bitsandbytes (QLoRA): less memory, not faster"
    )
    allow_pickle: bool = field(
        5, False, "Also read .ckpt and .bin files, which are pickles: weights alone, never code, but trust their source"
    )
