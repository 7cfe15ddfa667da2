"""The LoRA: injected by PEFT, kept in float32, written in the two formats that the field reads.

`save_lora` writes the same update twice: a kohya file (`lora_unet_*`, alpha as a tensor), which A1111, ComfyUI and
diffusers load, and a diffusers folder (`unet.*.lora_A.weight` with the PEFT configuration as metadata). Both carry
alpha; diffusers' own kohya converter puts the rank in its place, which changes the strength of every LoRA with alpha
other than rank.
Files are byte-reproducible: no dates, metadata in sorted order.
"""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lora_core.bases.base import Base
from lora_core.errors import BaseModelError
from lora_core.experiment import AdapterSection, Experiment
from lora_core.files import file_digest, whole_file
from lora_core.randomness import seed_for

DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"
_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_FEED_FORWARD = r"ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out"
_CONVOLUTIONS = r"conv1|conv2|conv_shortcut|time_emb_proj|samplers\.0\.conv"
_UNET_LAYERS = {
    "attention": _ATTENTION,
    "attention-ff": f"{_ATTENTION}|{_FEED_FORWARD}",
    "all": f"{_ATTENTION}|{_FEED_FORWARD}|{_CONVOLUTIONS}",
}
_TEXT_LAYERS = {"attention": r"q_proj|k_proj|v_proj|out_proj", "attention-ff": r"q_proj|k_proj|v_proj|out_proj|fc1|fc2"}
_UNET_BLOCKS = r"(down_blocks|mid_block|up_blocks)\..*"


@dataclass(frozen=True)
class Adapter:
    """A LoRA that is injected into a base.

    Attributes:
        unet: parameter name to parameter, float32.
        text_encoder: the same; empty where the text encoder is not trained.
    """

    base: Base
    section: AdapterSection
    unet: dict[str, nn.Parameter]
    text_encoder: dict[str, nn.Parameter]

    def parameters(self) -> list[nn.Parameter]:
        """Every trained parameter, in a fixed order."""
        return [*self.unet.values(), *self.text_encoder.values()]

    def state(self) -> dict[str, Tensor]:
        """Copies on the CPU, float32, in diffusers' naming (`unet.….lora_A.weight`)."""
        return {
            **_named("unet", self.base.unet),
            **(_named("text_encoder", self.base.text_encoder) if self.text_encoder else {}),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Puts saved values in place; the pipeline stays as it is (hot swap).

        Raises:
            BaseModelError: the file belongs to another architecture, rank or selection of layers.
        """
        for prefix, parameters in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            given = {
                key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")
            }
            expected = {_plain(name): parameter for name, parameter in parameters.items()}
            if given.keys() != expected.keys():
                odd = sorted(given.keys() ^ expected.keys())[0]
                raise BaseModelError(f"the LoRA does not fit this base and adapter section: {prefix}.{odd}")
            for name, parameter in expected.items():
                if parameter.shape != given[name].shape:
                    shapes = f"{tuple(given[name].shape)}, not {tuple(parameter.shape)}"
                    raise BaseModelError(f"the LoRA has another rank: {prefix}.{name} is {shapes}")
                parameter.copy_(given[name])

    def enable(self, on: bool) -> None:
        """Switches the update on or off; off is the bare base."""
        for model in (self.base.unet, self.base.text_encoder):
            for module in model.modules():
                if isinstance(module, BaseTunerLayer):
                    module.enable_adapters(on)


def attach(base: Base, section: AdapterSection, seed: int) -> Adapter:
    """Injects a fresh LoRA; its first values are a function of the seed, and the update starts at zero."""
    unet_layers = rf"{_UNET_BLOCKS}({_UNET_LAYERS[section.layers]})"
    _inject(base.unet, unet_layers, section, seed_for("lora", seed))
    if section.text_encoder:
        text_layers = _TEXT_LAYERS["attention" if section.layers == "attention" else "attention-ff"]
        _inject(base.text_encoder, rf".*\.({text_layers})", section, seed_for("text lora", seed))
    return Adapter(base, section, _trained(base.unet), _trained(base.text_encoder))


def save_lora(adapter: Adapter, experiment: Experiment, path: Path, facts: dict[str, str]) -> str:
    """Writes `path` (kohya) and the folder of the same name without suffix (diffusers).

    Args:
        facts: further `ss_*` metadata, deterministic values only.

    Returns:
        sha256 of the kohya file.
    """
    state = adapter.state()
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(
        state,
        {"format": "pt", "lora_adapter_metadata": json.dumps(_peft_metadata(adapter), sort_keys=True)},
        folder / DIFFUSERS_NAME,
    )
    save_safetensors(to_kohya(state, adapter.section.alpha), _kohya_metadata(experiment, facts), path)
    return file_digest(path)


def load_lora(folder: Path) -> dict[str, Tensor]:
    """The values that `save_lora` wrote into the diffusers folder."""
    return load_file(folder / DIFFUSERS_NAME)


def to_kohya(state: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Diffusers' naming to kohya's for SD 1.x: `lora_unet_*`, `lora_te_text_model_*`, a scalar alpha a module."""
    kohya = {}
    for key, value in state.items():
        module, part = re.fullmatch(r"(.*)\.lora_(A|B)\.weight", key).groups()  # type: ignore[union-attr]
        if module.startswith("text_encoder."):
            # transformers 5 dropped the text_model level; the file format did not.
            inner = module.removeprefix("text_encoder.").removeprefix("text_model.")
            name = "lora_te_text_model_" + inner.replace(".", "_")
        else:
            name = "lora_unet_" + module.removeprefix("unet.").replace(".", "_")
        kohya[f"{name}.{'lora_down' if part == 'A' else 'lora_up'}.weight"] = value
        kohya[f"{name}.alpha"] = torch.tensor(float(alpha))
    return kohya


def save_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Writes a `.safetensors` file whose bytes depend on the content alone (the library leaves metadata unordered)."""
    plain = save({key: tensors[key].contiguous() for key in sorted(tensors)})
    size = struct.unpack("<Q", plain[:8])[0]
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + plain[8 + size :])


def _inject(model: nn.Module, layers: str, section: AdapterSection, seed: int) -> None:
    config = LoraConfig(r=section.rank, lora_alpha=section.alpha, target_modules=layers, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}


def _plain(name: str) -> str:
    return name.replace(".default.", ".")


def _bare(model: nn.Module) -> nn.Module:
    """The model inside what accelerate wraps it in for several processes."""
    inner = getattr(model, "module", model)
    return inner if isinstance(inner, nn.Module) else model


def _named(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    state = get_peft_model_state_dict(_bare(model))
    return {f"{prefix}.{key}": value.detach().float().cpu().clone() for key, value in state.items()}


def _peft_metadata(adapter: Adapter) -> dict[str, Any]:
    """PEFT's configuration of each part, under `unet.` and `text_encoder.`, as diffusers reads it."""
    metadata = {}
    for prefix, model in (("unet", adapter.base.unet), ("text_encoder", adapter.base.text_encoder)):
        if config := getattr(_bare(model), "peft_config", {}).get("default"):
            values = {
                key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()
            }
            metadata.update({f"{prefix}.{key}": value for key, value in values.items()})
    return metadata


def _kohya_metadata(experiment: Experiment, facts: dict[str, str]) -> dict[str, str]:
    adapter, training = experiment.adapter, experiment.training
    return {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(adapter.rank),
        "ss_network_alpha": str(adapter.alpha),
        "ss_network_args": json.dumps(
            {"conv_dim": adapter.rank, "conv_alpha": adapter.alpha} if adapter.layers == "all" else {}
        ),
        "ss_output_name": experiment.name,
        "ss_learning_rate": str(training.learning_rate),
        "ss_unet_lr": str(training.learning_rate),
        "ss_text_encoder_lr": str(training.text_encoder_learning_rate if adapter.text_encoder else None),
        "ss_lr_scheduler": training.scheduler,
        "ss_optimizer": training.optimizer,
        "ss_mixed_precision": "no" if experiment.base.precision == "fp32" else experiment.base.precision,
        "ss_resolution": f"({experiment.data.resolution}, {experiment.data.resolution})",
        "ss_seed": str(experiment.seed),
        "ss_sd_model_name": experiment.base.model,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "Photo Enhancer",
        "modelspec.title": experiment.name,
        "modelspec.resolution": f"{experiment.data.resolution}x{experiment.data.resolution}",
        **facts,
    }
