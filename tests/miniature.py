"""A miniature of Stable Diffusion 1.5: its block structure, its files, random weights, a few megabytes.

`miniature_base` writes it as a diffusers folder with the very files of the published one, `miniature_single_file`
as one `.safetensors` in the key layout of the original CompVis release. Code that loads, trains, samples or exports
SD 1.5 does the same with either; only the pictures mean nothing.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel

Weights = dict[str, torch.Tensor]

_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = ("photo", "sharp", "clean", "natural", "photograph", "old", "image")


@dataclass(frozen=True)
class Sizes:
    """What makes a miniature small; all else is SD 1.5's."""

    unet: tuple[int, ...] = (16, 32, 32, 32)
    autoencoder: tuple[int, ...] = (16, 16, 32, 32)
    groups: int = 4
    text: int = 32
    text_inner: int = 64
    text_layers: int = 2
    text_heads: int = 4


QUARTER = Sizes((80, 160, 320, 320), (32, 64, 128, 128), 16, 192, 768, 12, 12)
"""Every width a quarter of SD 1.5's, every depth as it is: its parts cost what they do there, relative to all."""


def miniature_base(folder: Path, seed: int = 0, sizes: Sizes | None = None) -> Path:
    """Writes the miniature as a diffusers folder; the weights are a function of `seed`.

    Returns:
        `folder`, with model_index.json, unet, vae, text_encoder, tokenizer and scheduler.
    """
    vocabulary, sizes = _write_tokenizer(folder / "tokenizer"), sizes or Sizes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _unet(sizes).save_pretrained(folder / "unet")
        _autoencoder(sizes).save_pretrained(folder / "vae")
        _save_text_encoder(_text_encoder(vocabulary, sizes), folder / "text_encoder")
    _write_json(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
    _write_json(folder / "model_index.json", _MODEL_INDEX)
    return folder


def miniature_single_file(folder: Path, target: Path) -> Path:
    """Writes the weights of a diffusers folder of SD's shape to one file in the original CompVis key layout.

    Beside the weights it holds parts of the noise schedule, which the published file has too and a loader must ignore.

    Returns:
        `target`, a `.safetensors` file.
    """
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text_encoder = load_file(folder / "text_encoder" / "model.safetensors")
    schedule = DDIMScheduler.from_pretrained(folder / "scheduler")
    weights = unet_to_compvis(unet) | autoencoder_to_compvis(vae) | text_encoder_to_compvis(text_encoder)
    weights |= {"betas": schedule.betas, "alphas_cumprod": schedule.alphas_cumprod}
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, target, metadata={"format": "pt"})
    return target


def unet_to_compvis(weights: Weights) -> Weights:
    """The UNet's weights under the names of LDM's `openaimodel.py`.

    LDM counts the layers of all levels in one row: `input_blocks.0` is conv_in, then each level has its residual
    layers and, but for the last, a downsampler; `output_blocks` likewise, where the upsampler is the last entry of
    the level's last layer, behind an attention if the level has one.
    """
    layers = 1 + max(int(key.split(".")[3]) for key in weights if key.startswith("down_blocks.0.resnets."))
    attentive = {key.split(".")[1] for key in weights if re.match(r"up_blocks\.\d+\.attentions\.", key)}

    def downward(match: re.Match[str]) -> str:
        block, part, layer = int(match[1]), match[2], int(match[3])
        position = block * layers + layer + 1
        return {
            "resnets": f"input_blocks.{position}.0",
            "attentions": f"input_blocks.{position}.1",
            "downsamplers": f"input_blocks.{(block + 1) * layers}.0.op",
        }[part]

    def upward(match: re.Match[str]) -> str:
        block, part, layer = int(match[1]), match[2], int(match[3])
        last = (block + 1) * layers - 1
        return {
            "resnets": f"output_blocks.{block * layers + layer}.0",
            "attentions": f"output_blocks.{block * layers + layer}.1",
            "upsamplers": f"output_blocks.{last}.{2 if match[1] in attentive else 1}.conv",
        }[part]

    layers += 1  # down: the downsampler, or nothing at the last level; up: one residual layer more
    renamed = {}
    for key, value in weights.items():
        name = re.sub(r"^down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)(?:\.conv(?=\.))?", downward, key)
        name = re.sub(r"^up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)(?:\.conv(?=\.))?", upward, name)
        renamed["model.diffusion_model." + _replace(name, _UNET_NAMES)] = value
    return renamed


def autoencoder_to_compvis(weights: Weights) -> Weights:
    """The autoencoder's weights under LDM's names: levels count from the finest, attention is 1x1 convolutions."""
    levels = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("decoder.up_blocks."))
    renamed = {}
    for key, value in weights.items():
        name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", key)
        name = re.sub(r"mid_block\.resnets\.(\d+)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
        name = _replace(name, _AUTOENCODER_NAMES)
        is_projection = ".mid.attn_1." in name and value.ndim == 2
        renamed["first_stage_model." + name] = value[:, :, None, None] if is_projection else value
    return renamed


def text_encoder_to_compvis(weights: Weights) -> Weights:
    """The text encoder's weights under the names of transformers 4; version 5 dropped the prefix `text_model.`"""
    prefix = "cond_stage_model.transformer.text_model."
    return {prefix + key.removeprefix("text_model."): value for key, value in weights.items()}


_UNET_NAMES = {
    r"^mid_block\.resnets\.0": "middle_block.0",
    r"^mid_block\.attentions\.0": "middle_block.1",
    r"^mid_block\.resnets\.1": "middle_block.2",
    r"^conv_in\.": "input_blocks.0.0.",
    r"^conv_norm_out\.": "out.0.",
    r"^conv_out\.": "out.2.",
    r"^time_embedding\.linear_1\.": "time_embed.0.",
    r"^time_embedding\.linear_2\.": "time_embed.2.",
    r"(put_blocks\.\d+|middle_block)\.(\d+)\.norm1\.": r"\1.\2.in_layers.0.",
    r"(put_blocks\.\d+|middle_block)\.(\d+)\.conv1\.": r"\1.\2.in_layers.2.",
    r"(put_blocks\.\d+|middle_block)\.(\d+)\.norm2\.": r"\1.\2.out_layers.0.",
    r"(put_blocks\.\d+|middle_block)\.(\d+)\.conv2\.": r"\1.\2.out_layers.3.",
    r"\.time_emb_proj\.": ".emb_layers.1.",
    r"\.conv_shortcut\.": ".skip_connection.",
}
_AUTOENCODER_NAMES = {
    r"down_blocks\.(\d+)": r"down.\1",
    r"\.resnets\.(\d+)": r".block.\1",
    r"\.(down|up)samplers\.0\.": r".\1sample.",
    r"\.conv_shortcut\.": ".nin_shortcut.",
    r"\.conv_norm_out\.": ".norm_out.",
    r"mid_block\.attentions\.0": "mid.attn_1",
    r"\.group_norm\.": ".norm.",
    r"\.to_([qkv])\.": r".\1.",
    r"\.to_out\.0\.": ".proj_out.",
}


def _replace(name: str, table: dict[str, str]) -> str:
    for pattern, replacement in table.items():
        name = re.sub(pattern, replacement, name)
    return name


def _unet(sizes: Sizes) -> UNet2DConditionModel:
    """SD 1.5's UNet but for its widths: four levels, three with cross-attention, two layers a level, eight heads."""
    return UNet2DConditionModel(
        sample_size=64,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=sizes.unet,
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=sizes.text,
        norm_num_groups=sizes.groups,
    )


def _autoencoder(sizes: Sizes) -> AutoencoderKL:
    """SD 1.5's autoencoder but for its widths: 8x smaller latents, attention in both middle blocks."""
    return AutoencoderKL(
        sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=sizes.autoencoder,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=sizes.groups,
        scaling_factor=0.18215,
    )


def _text_encoder(vocabulary: int, sizes: Sizes) -> CLIPTextModel:
    """SD 1.5's text encoder but for its widths and depth; start and end are the last two tokens, as in CLIP."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.text,
        intermediate_size=sizes.text_inner,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def _save_text_encoder(model: CLIPTextModel, folder: Path) -> None:
    """Writes names as published, by transformers 4: prefixed, and with the position ids that were a weight then."""
    model.config.save_pretrained(folder)
    weights = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in model.state_dict().items()}
    positions = torch.arange(model.config.max_position_embeddings)[None]
    weights["text_model.embeddings.position_ids"] = positions
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> int:
    """Writes a byte-level BPE tokenizer in the files of SD 1.5's, with a few words merged; returns its size."""
    letters = sorted(ByteLevel.alphabet())
    merges: dict[str, str] = {}  # the pair, and the symbol it becomes
    for word in _WORDS:
        symbol, *rest = *word[:-1], word[-1] + "</w>"
        for letter in rest:
            merges.setdefault(f"{symbol} {letter}", symbol + letter)
            symbol += letter
    symbols = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *merges.values(), _START, _END])
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    _write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", special | settings)
    return len(vocabulary)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
