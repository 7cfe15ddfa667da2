"""What a file is when it is no LoRA for Stable Diffusion 1.x or 2.x: found by its keys, refused by its name."""

import re
from collections.abc import Iterable
from pathlib import Path

from lora_core.errors import DataError

# The first that matches a key speaks; kinds of update stand before base models, which have plainer keys.
_OTHER_UPDATES = (
    (r"\.hada_", "a LoHa (LyCORIS)"),
    (r"\.lokr_", "a LoKr (LyCORIS)"),
    (r"\.oft_|\.boft_", "an OFT"),
    (r"\.lora_mid\.", "a LoCon in CP decomposition (LyCORIS use_tucker)"),
    (r"\.(a1|a2|b1|b2)\.weight$", "a GLoRA (LyCORIS)"),
    (r"\.on_input$", "an (IA)^3 (LyCORIS)"),
    (r"\.(diff|diff_b)$", "a full difference of weights (LyCORIS)"),
    (r"\.lora_embedding_[AB]$|\.lora_embedding_[AB]\.", "a LoRA of embeddings"),
    (r"\.lora_B(\.\w+)?\.bias$", "a LoRA with biases"),
)
_OTHER_BASES = (
    (r"^lora_te2_|^text_encoder_2\.|^lora_unet_(input_blocks|middle_block|output_blocks|label_emb)_", "SDXL"),
    (r"^unet\.add_embedding\.|^lora_unet_add_embedding_", "SDXL"),
    (r"^lora_te3_|^text_encoder_3\.|joint_blocks", "SD 3"),
    (r"double_blocks|single_blocks|single_transformer_blocks|double_stream", "FLUX"),
    (r"^(base_model\.model\.)?(transformer|diffusion_model)\.|^lora_transformer_", "a transformer (FLUX, SD 3, …)"),
)
_BASE_MODELS = (
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.", "a base model"),
    (r"^control_model\.", "a ControlNet"),
    (r"^emb_params$|^string_to_param$|^clip_[lg]$", "a textual inversion"),
)


def refuse_other_families(keys: Iterable[str], source: Path) -> None:
    """Returns where nothing speaks against a LoRA for SD 1.x or 2.x.

    Raises:
        DataError: another kind of update, another family of base, or a model and no update at all.
    """
    names = sorted(keys)
    if not names:
        raise DataError(f"{source} is empty: it holds no tensor")
    for pattern, what in _OTHER_UPDATES:
        if key := _first(pattern, names):
            raise DataError(f"{source} is {what} ({key}); only LoRA, LoCon and DoRA are read")
    for pattern, what in _OTHER_BASES:
        if key := _first(pattern, names):
            raise DataError(f"{source} is for {what} ({key}); use one that was trained on SD 1.x or 2.x")
    for pattern, what in _BASE_MODELS:
        if key := _first(pattern, names):
            raise DataError(f"{source} is {what}, not a LoRA ({key})")
    if not any("lora" in name for name in names):
        raise DataError(f"{source} is no LoRA: none of its {len(names)} tensors is one, {names[0]} is the first")


def _first(pattern: str, names: list[str]) -> str | None:
    return next((name for name in names if re.search(pattern, name)), None)
