"""PEFT's LoraConfig as plain data: what scales a LoRA in diffusers' metadata and in adapter_config.json.

Written with the keys that change the update and no others: the whole configuration differs between PEFT's versions,
and an older one refuses a key that it does not know.
"""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from lora_core.errors import DataError
from lora_core.formats.weights import MAGNITUDE, LoraWeights

Number = TypeVar("Number", int, float)

# Start values that change the base's own weights: the low-rank matrices alone are not the update.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_OTHER_MATHS = ("use_qalora", "use_bdlora", "alora_invocation_tokens", "trainable_token_indices", "modules_to_save")


def lora_config(weights: LoraWeights, part: str) -> dict[str, Any]:
    """The configuration of 'unet' or 'text_encoder'; patterns fit a path with or without the level `text_model`."""
    modules = weights.modules(part)
    ranks = {module.removeprefix(f"{part}."): weights.rank(module) for module in modules}
    alphas = {module.removeprefix(f"{part}."): weights.alphas[module] for module in modules}
    rank, alpha = _commonest(list(ranks.values())), _commonest(list(alphas.values()))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {re.escape(path): value for path, value in ranks.items() if value != rank},
        "alpha_pattern": {re.escape(path): value for path, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": any(f"{module}.{MAGNITUDE}" in weights.tensors for module in modules),
        "use_rslora": False,
        "bias": "none",
    }


def kohya_alpha(config: dict[str, Any], path: str, rank: int, source: Path) -> float:
    """Alpha of a module in kohya's convention, update = alpha / rank * B @ A.

    Args:
        config: as read from a file.
        path: the module's, without 'unet.' or 'text_encoder.'.
        rank: of its matrices; rsLoRA divides by its root instead.

    Raises:
        DataError: a pattern is no regular expression, or alpha no number other than 0.
    """
    alpha: Any = config.get("lora_alpha", rank)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", path)  # as PEFT matches
        except re.error as error:
            raise DataError(f"{source}: alpha_pattern '{pattern}' is no regular expression: {error}") from error
        if found:
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise DataError(f"{source}: lora_alpha of {path} is {alpha!r}, not a number")
    if alpha == 0:  # to kohya's readers 0 means the rank
        raise DataError(f"{source}: lora_alpha of {path} is 0, which switches its update off")
    return alpha * math.sqrt(rank) if config.get("use_rslora") else float(alpha)


def refuse_other_methods(config: dict[str, Any], source: Path) -> None:
    """Returns for a plain LoRA, rsLoRA or DoRA.

    Raises:
        DataError: another method of PEFT's, or one that changes the base's weights too.
    """
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise DataError(f"{source}: peft_type is {kind}; only LORA is read")
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGES_BASE):
        raise DataError(
            f"{source}: init_lora_weights is {start}, which changes the base's weights too; save it as a plain LoRA "
            "with PEFT's path_initial_model_for_weight_conversion"
        )
    for key in _OTHER_MATHS:
        if config.get(key):
            raise DataError(f"{source}: {key} is set; only plain LoRA, rsLoRA and DoRA are read")


def _commonest(values: list[Number]) -> Number:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
