"""The LoRA: injected by PEFT, kept in float32, written in the two formats that the field reads.

`save_lora` writes the same update twice: a kohya file (`lora_unet_*`, alpha as a tensor), which A1111, ComfyUI and
diffusers load, and a diffusers folder (`unet.*.lora_A.weight` with the PEFT configuration as metadata). Both carry
alpha; diffusers' own kohya converter puts the rank in its place, which changes the strength of every LoRA with alpha
other than rank.
Files are byte-reproducible: no dates, metadata in sorted order.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save
from torch import Tensor, nn

from lora_core.adapter_dropout import add_dropout
from lora_core.bases.base import Base
from lora_core.control import WidenedConvIn, control_state, load_control, widen
from lora_core.errors import BaseModelError, ConfigError
from lora_core.experiment import AdapterSection
from lora_core.formats.diffusers_folder import read_diffusers_folder
from lora_core.formats.weights import LoraWeights
from lora_core.formats.writing import weights_file, write_lora
from lora_core.randomness import seed_for
from lora_core.sections.adapter import BlockRank

_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_FEED_FORWARD = r"ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out"
_CONVOLUTIONS = r"conv1|conv2|conv_shortcut|time_emb_proj|samplers\.0\.conv"
_UNET_LAYERS = {
    "attention": _ATTENTION,
    "attention-ff": f"{_ATTENTION}|{_FEED_FORWARD}",
    "all": f"{_ATTENTION}|{_FEED_FORWARD}|{_CONVOLUTIONS}",
}
_TEXT_LAYERS = {"attention": r"q_proj|k_proj|v_proj|out_proj", "attention-ff": r"q_proj|k_proj|v_proj|out_proj|fc1|fc2"}
_UNET_BLOCKS = r"^(down_blocks|mid_block|up_blocks)\..*"


@dataclass(frozen=True)
class Adapter:
    """A LoRA that is injected into a base.

    Attributes:
        unet: parameter name to parameter, float32.
        text_encoder: the same; empty where the text encoder is not trained.
        control: the widened conv_in, where the UNet sees the degraded latents as a condition.
    """

    base: Base
    section: AdapterSection
    unet: dict[str, nn.Parameter]
    text_encoder: dict[str, nn.Parameter]
    control: WidenedConvIn | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Every trained parameter, in a fixed order."""
        condition = self.control.condition.parameters() if self.control else ()
        return [*self.unet.values(), *self.text_encoder.values(), *condition]

    @cached_property
    def layers(self) -> dict[str, BaseTunerLayer]:
        """The adapted modules by path, `unet.…` and `text_encoder.…`."""
        return {
            f"{prefix}.{name}": module
            for prefix, model in (("unet", self.base.unet), ("text_encoder", self.base.text_encoder))
            for name, module in model.named_modules()
            if isinstance(module, BaseTunerLayer)
        }

    def alphas(self) -> dict[str, float]:
        """Alpha of each module in the files' convention, update = alpha / rank B A, whatever rsLoRA made of it."""
        return {name: layer.scaling["default"] * layer.r["default"] for name, layer in self.layers.items()}

    def state(self) -> dict[str, Tensor]:
        """Copies on the CPU, float32, in diffusers' naming (`unet.….lora_A.weight`)."""
        return {
            **_named("unet", self.base.unet),
            **(_named("text_encoder", self.base.text_encoder) if self.text_encoder else {}),
        }

    def weights(self) -> LoraWeights:
        """The LoRA as it is now, for a file."""
        return LoraWeights(self.state(), self.alphas(), control_state(self.control) if self.control else {})

    @torch.no_grad()
    def load(self, weights: LoraWeights) -> None:
        """Puts saved values in place; the pipeline stays as it is (hot swap). Alpha stays the section's.

        Raises:
            BaseModelError: the file belongs to another architecture, rank or selection of layers.
        """
        for prefix, parameters in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            given = {
                key.removeprefix(f"{prefix}."): value
                for key, value in weights.tensors.items()
                if key.startswith(f"{prefix}.")
            }
            expected = {_plain(name): parameter for name, parameter in parameters.items()}
            if given.keys() != expected.keys():
                odd = sorted(given.keys() ^ expected.keys())[0]
                raise BaseModelError(f"the LoRA does not fit this base and adapter section: {prefix}.{odd}")
            for name, parameter in expected.items():
                if _bare_shape(parameter) != _bare_shape(given[name]):
                    shapes = f"{tuple(given[name].shape)}, not {tuple(parameter.shape)}"
                    raise BaseModelError(f"the LoRA has another rank: {prefix}.{name} is {shapes}")
                # A 1x1 convolution and a linear layer hold the same numbers.
                parameter.copy_(given[name].view(parameter.shape))
        if self.control:
            load_control(self.control, weights.control)

    @cached_property
    def _scalings(self) -> dict[str, float]:
        return {name: layer.scaling["default"] for name, layer in self.layers.items()}

    def scale(self, factor: float) -> None:
        """Sets how strongly the update counts: 1 is as it was trained. A condition channel stays as it is."""
        for name, scaling in self._scalings.items():
            self.layers[name].scaling["default"] = factor * scaling

    def enable(self, on: bool) -> None:
        """Switches the update on or off; off is the bare base."""
        for layer in self.layers.values():
            layer.enable_adapters(on)
        if self.control:
            self.control.on = on

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The bare base within the block."""
        self.enable(False)
        try:
            yield
        finally:
            self.enable(True)


def attach(base: Base, section: AdapterSection, seed: int, *, control: bool = False) -> Adapter:
    """Injects a fresh LoRA; its first values are a function of the seed, and the update starts at zero.

    Args:
        control: widen conv_in for the degraded latents as well.

    Raises:
        ConfigError: a pattern of the section fits no module of this base.
    """
    wide = widen(base) if control else None
    unet_layers = section.layer_pattern or rf"{_UNET_BLOCKS}({_UNET_LAYERS[section.layers]})$"
    _inject(base.unet, unet_layers, section, section.blocks, seed_for("lora", seed))
    if section.text_encoder:
        text_layers = _TEXT_LAYERS["attention" if section.layers == "attention" else "attention-ff"]
        _inject(base.text_encoder, rf"\.({text_layers})$", section, (), seed_for("text lora", seed))
    if wide:
        wide.condition.requires_grad_(True)
    adapter = Adapter(base, section, _trained(base.unet), _trained(base.text_encoder), wide)
    add_dropout(adapter.layers.values(), section)
    return adapter


def warm_start(adapter: Adapter, weights: LoraWeights) -> None:
    """Starts from another LoRA: the same update, whatever its alpha was.

    Raises:
        ConfigError: its modules or ranks are not those of this adapter.
    """
    tensors, ours = dict(weights.tensors), adapter.alphas()
    for module in weights.modules():
        if module in ours:
            rank = adapter.layers[module].r["default"]
            if weights.rank(module) != rank:
                raise ConfigError(
                    f"adapter.warm_start: {module} has rank {weights.rank(module)} there and {rank} here; "
                    f"set adapter.rank, or resize the file: photo-enhancer export LORA --rank {rank}"
                )
            key = f"{module}.lora_B.weight"
            tensors[key] = tensors[key] * (weights.scale(module) * rank / ours[module])
    try:
        adapter.load(replace(weights, tensors=tensors))
    except BaseModelError as error:
        raise ConfigError(f"adapter.warm_start: {error}") from error


def save_lora(adapter: Adapter, stem: Path, metadata: dict[str, str]) -> dict[str, str | None]:
    """Writes a checkpoint in the section's formats: the folder `stem` (diffusers) and `stem`.safetensors (kohya).

    Args:
        metadata: of the kohya file, deterministic values only; its hashes are added.

    Returns:
        "diffusers" and "kohya" (None where it is not written), the folder and the file below the round's folder;
        "file", the one of them that "digest" is the sha256 of.
    """
    weights, root = adapter.weights(), stem.parent.parent
    # The LoRA's own digest must cover the condition that lies beside it.
    beside = {"condition": sha256(save(weights.control)).hexdigest()} if weights.control else {}
    digest, kohya = write_lora(weights, stem, "diffusers", beside), None
    file = weights_file(stem, "diffusers")
    if adapter.section.formats == "kohya+diffusers":
        file = kohya = stem.with_name(f"{stem.name}.safetensors")
        digest = write_lora(weights, kohya, "kohya", metadata)
    return {
        "diffusers": stem.relative_to(root).as_posix(),
        "kohya": kohya.relative_to(root).as_posix() if kohya else None,
        "file": file.relative_to(root).as_posix(),
        "digest": digest,
    }


def load_lora(folder: Path) -> LoraWeights:
    """What `save_lora` wrote into the diffusers folder."""
    return read_diffusers_folder(folder)


def _inject(model: nn.Module, layers: str, section: AdapterSection, blocks: tuple[BlockRank, ...], seed: int) -> None:
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and re.search(layers, name)
    ]
    if not targets:
        raise ConfigError(f"adapter.layer_pattern: '{layers}' fits no linear layer or convolution of this base")
    ranks, alphas = {}, {}
    for block in blocks:
        if not (matched := [name for name in targets if re.search(block.pattern, name)]):
            raise ConfigError(f"adapter.block_ranks: '{block.pattern}' fits none of the {len(targets)} adapted modules")
        ranks.update({re.escape(name): block.rank for name in matched})
        alphas.update({re.escape(name): block.alpha for name in matched})
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        target_modules=targets,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        use_dora=section.dora,
        use_rslora=section.rslora,
        lora_dropout=section.dropout,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}


def _bare_shape(tensor: Tensor) -> list[int]:
    shape = list(tensor.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    return shape


def _plain(name: str) -> str:
    return name.replace(".default.", ".").replace("magnitude_vector.weight", "magnitude_vector")


def _named(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    state = get_peft_model_state_dict(model)
    return {f"{prefix}.{key}": value.detach().float().cpu().clone() for key, value in state.items()}
