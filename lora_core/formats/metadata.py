"""What a kohya file says of its making: `ss_*` and `modelspec.*`, a function of plain arguments, and its hashes.

A1111 tells SD 1.x from 2.x by `ss_v2` and `ss_base_model_version`, shows the rest, and knows a file by
`sshs_model_hash`. The names and the text forms ("None", "True", "(512, 512)") are kohya's. No clock is read: a date is
there if it is passed.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_core import __version__
from lora_core.formats.safetensors_file import header_size, safetensors_bytes

_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000
# Left out where unknown, as kohya does; every other fact that is None is written as "None".
_OPTIONAL = (
    "session_id", "training_started_at", "training_finished_at", "network_args", "sd_model_name", "sd_model_hash",
    "new_sd_model_hash", "vae_name", "vae_hash", "new_vae_hash", "datasets", "tag_frequency", "dataset_dirs",
    "reg_dataset_dirs", "bucket_info",
)  # fmt: skip
_ARCHITECTURES = {
    (False, False): "stable-diffusion-v1",
    (True, False): "stable-diffusion-v2-512",
    (True, True): "stable-diffusion-v2-768-v",
}
_JSON = ("network_args", "datasets", "tag_frequency", "dataset_dirs", "reg_dataset_dirs", "bucket_info")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a person is shown of the file: `modelspec.*` of Stability's model metadata 1.0.1."""

    title: str
    description: str | None = None
    author: str | None = None
    date: str | None = None
    license: str | None = None
    usage_hint: str | None = None
    tags: str | None = None
    trigger_phrase: str | None = None
    merged_from: str | None = None
    timestep_range: str | None = None
    preprocessor: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The facts of a training run, named as kohya's `ss_*` keys.

    Attributes:
        network_dim: rank; kohya writes 'Dynamic' where modules differ.
        network_args: for instance conv_dim and conv_alpha.
        v2: Stable Diffusion 2.x; with `v_parameterization` its 768-pixel version.
        resolution: width, height in pixels.
        sd_model_hash: `legacy_file_hash` of the base; `new_sd_model_hash` is its sha256.
        dataset_dirs: folder name to {'n_repeats', 'img_count'}.
        tag_frequency: folder name to {caption tag: how often}.
    """

    spec: ModelSpec
    output_name: str
    network_dim: int | str
    network_alpha: float | str
    resolution: tuple[int, int]
    network_module: str = "networks.lora"
    network_args: dict[str, Any] | None = None
    network_dropout: float | None = None
    v2: bool = False
    v_parameterization: bool = False
    clip_skip: int | None = None
    sd_model_name: str | None = None
    sd_model_hash: str | None = None
    new_sd_model_hash: str | None = None
    vae_name: str | None = None
    vae_hash: str | None = None
    new_vae_hash: str | None = None
    session_id: int | None = None
    training_started_at: float | None = None
    training_finished_at: float | None = None
    training_comment: str | None = None
    learning_rate: float | None = None
    unet_lr: float | None = None
    text_encoder_lr: float | None = None
    lr_scheduler: str | None = None
    lr_warmup_steps: int | None = None
    optimizer: str | None = None
    max_grad_norm: float | None = None
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    gradient_accumulation_steps: int = 1
    batch_size_per_device: int | None = None
    total_batch_size: int | None = None
    num_train_images: int | None = None
    num_validation_images: int = 0
    num_reg_images: int = 0
    num_batches_per_epoch: int | None = None
    num_epochs: int | None = None
    epoch: int | None = None
    steps: int | None = None
    max_train_steps: int | None = None
    seed: int | None = None
    cache_latents: bool = False
    caption_dropout_rate: float = 0.0
    flip_aug: bool = False
    random_crop: bool = False
    enable_bucket: bool = False
    noise_offset: float | None = None
    ip_noise_gamma: float | None = None
    min_snr_gamma: float | None = None
    debiased_estimation: bool = False
    zero_terminal_snr: bool = False
    prior_loss_weight: float = 1.0
    loss_type: str = "l2"
    huber_c: float | None = None
    scale_weight_norms: float | None = None
    datasets: list[dict[str, Any]] | None = None
    tag_frequency: dict[str, dict[str, int]] | None = None
    dataset_dirs: dict[str, dict[str, int]] | None = None
    reg_dataset_dirs: dict[str, dict[str, int]] | None = None
    bucket_info: dict[str, Any] | None = None
    further: dict[str, str] = field(default_factory=dict)


def training_metadata(facts: TrainingFacts) -> dict[str, str]:
    """`ss_*` and `modelspec.*` of a trained LoRA, without the hashes, which `write_lora` adds.

    `facts.further` is taken as it is and wins.
    """
    metadata = {"ss_base_model_version": base_model_version(facts.v2, facts.v_parameterization)}
    for entry in fields(facts):
        value = getattr(facts, entry.name)
        if entry.name in ("spec", "further", "v_parameterization") or (entry.name in _OPTIONAL and value is None):
            continue
        metadata[f"ss_{entry.name}"] = json.dumps(value) if entry.name in _JSON else str(value)
    return {**metadata, **_modelspec(facts), **facts.further}


def base_model_version(v2: bool, v_parameterization: bool = False) -> str:
    """kohya's name of the base's family: sd_v1, sd_v2 or sd_v2_v."""
    return ("sd_v2" if v2 else "sd_v1") + ("_v" if v_parameterization else "")


def tensor_hashes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, str]:
    """The hashes under which web UIs know a file.

    kohya's recipe: the file is serialised with its `ss_*` metadata alone, so that a description can be edited
    afterwards. `sshs_model_hash` is sha256 of what follows the header, `sshs_legacy_hash` the first eight digits of
    sha256 of 64 KiB from the first mebibyte on (of nothing, in a smaller file). `modelspec.hash_sha256` is the first
    hash with 0x before it.
    """
    content = safetensors_bytes(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    whole = hashlib.sha256(memoryview(content)[8 + header_size(content) :]).hexdigest()
    legacy = hashlib.sha256(content[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]).hexdigest()[:8]
    return {"sshs_model_hash": whole, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{whole}"}


def legacy_file_hash(path: Path) -> str:
    """The eight digits by which old web UIs know a base model (`ss_sd_model_hash`)."""
    with path.open("rb") as file:
        file.seek(_LEGACY_START)
        return hashlib.sha256(file.read(_LEGACY_LENGTH)).hexdigest()[:8]


def _modelspec(facts: TrainingFacts) -> dict[str, str]:
    values: dict[str, str | None] = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{_ARCHITECTURES[facts.v2, facts.v2 and facts.v_parameterization]}/lora",
        "implementation": "diffusers",  # whose module names the keys follow
        "implementation_version": f"photo-enhancer/{__version__}",
        "resolution": f"{facts.resolution[0]}x{facts.resolution[1]}",
        "prediction_type": "v" if facts.v_parameterization else "epsilon",
        "encoder_layer": None if facts.clip_skip is None else str(facts.clip_skip),
        **{entry.name: getattr(facts.spec, entry.name) for entry in fields(facts.spec)},
    }
    return {f"modelspec.{key}": value for key, value in values.items() if value is not None}
