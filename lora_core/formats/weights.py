"""One LoRA in memory, whatever file it came from.

The naming is diffusers' (`unet.….lora_A.weight`), the alpha is kohya's: update = alpha / rank * B @ A. That pair says
most: PEFT's rsLoRA, which divides by the root of the rank, is only another alpha, and a file without any alpha is one
with alpha = rank. Text encoder paths are those of transformers 5, which dropped the level `text_model`; the readers
take it off and the writers of formats that have it put it back.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lora_core.errors import DataError

DOWN, UP, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
PARTS = ("unet", "text_encoder")
_SDXL_TEXT_WIDTH = 2048
_CONV_IN = "conv_in.weight"


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA.

    Attributes:
        tensors: '<module>.lora_A.weight' (r, in[, kh, kw]), '<module>.lora_B.weight' (out, r[, 1, 1]) and, with DoRA,
            '<module>.lora_magnitude_vector' ((out,) or (1, out, 1, 1)); float32, on the CPU. A module is
            'unet.<diffusers path>' or 'text_encoder.<transformers 5 path>'.
        alphas: alpha of each module.
        control: empty, or 'conv_in.weight' (out, 2 C, kh, kw) and 'conv_in.bias': a widened conv_in trained beside.
        metadata: the file's own `__metadata__`, for information.
    """

    tensors: dict[str, Tensor]
    alphas: dict[str, float]
    control: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def modules(self, part: str | None = None) -> list[str]:
        """The adapted modules in sorted order; of 'unet' or 'text_encoder' alone where `part` says so."""
        return sorted(module for module in self.alphas if part is None or module.startswith(f"{part}."))

    def rank(self, module: str) -> int:
        """Rank of a module's update."""
        return self.tensors[f"{module}.{DOWN}"].shape[0]

    def scale(self, module: str) -> float:
        """What B @ A is multiplied by: alpha / rank."""
        return self.alphas[module] / self.rank(module)

    @property
    def dora(self) -> bool:
        """Whether any module has a magnitude of its own."""
        return any(key.endswith(f".{MAGNITUDE}") for key in self.tensors)

    def delta(self, module: str) -> Tensor:
        """The update in the shape of the module's weight; with DoRA, before its magnitude is applied."""
        down, up = self.tensors[f"{module}.{DOWN}"], self.tensors[f"{module}.{UP}"]
        return (self.scale(module) * up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])


def checked(
    tensors: dict[str, Tensor],
    alphas: dict[str, float],
    source: Path,
    *,
    control: dict[str, Tensor] | None = None,
    metadata: dict[str, str] | None = None,
) -> LoraWeights:
    """The LoRA, once everything fits together; a missing alpha, or kohya's 0, becomes the rank.

    Raises:
        DataError: no module at all, half a module, shapes that do not fit, a value that is not finite, an alpha that
            belongs to nothing, or a LoRA for SDXL, whose names SD 1.x shares but whose text is wider.
    """
    tensors = dict(tensors)  # magnitudes are given their shape below
    modules = sorted({key.removesuffix(f".{part}") for key in tensors for part in (DOWN, UP) if key.endswith(part)})
    if not modules:
        raise DataError(f"{source} holds no LoRA: not one pair of low-rank matrices")
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{source}: {key} holds NaN or infinity; the training that wrote it diverged")
    for module in sorted({*alphas, *(key.removesuffix(f".{MAGNITUDE}") for key in tensors if key.endswith(MAGNITUDE))}):
        if module not in modules:
            raise DataError(f"{source}: {module} has an alpha or a magnitude but no low-rank matrices; incomplete file")
    for module in modules:
        _check_module(tensors, module, source)
        alpha = alphas.get(module, 0.0)
        if not torch.isfinite(torch.tensor(alpha)):
            raise DataError(f"{source}: {module} has alpha {alpha}")
    ranks = {module: float(tensors[f"{module}.{DOWN}"].shape[0]) for module in modules}
    whole = {module: alphas.get(module) or ranks[module] for module in modules}
    _check_control(control or {}, source)
    return LoraWeights(tensors, whole, control or {}, metadata or {})


def alpha_value(value: Tensor, key: str, source: Path) -> float:
    """The number in an alpha tensor.

    Raises:
        DataError: it holds several.
    """
    if value.numel() != 1:
        raise DataError(f"{source}: {key} holds {value.numel()} values; an alpha is one number")
    return float(value)


def _check_module(tensors: dict[str, Tensor], module: str, source: Path) -> None:
    down, up = tensors.get(f"{module}.{DOWN}"), tensors.get(f"{module}.{UP}")
    if down is None or up is None:
        present, missing = ("A (down)", "B (up)") if up is None else ("B (up)", "A (down)")
        raise DataError(f"{source}: {module} has matrix {present} but no {missing}; the file is incomplete")
    fits = down.ndim == up.ndim and down.ndim in (2, 4) and down.shape[0] == up.shape[1] and down.shape[0] > 0
    if not fits or (up.ndim == 4 and up.shape[2:] != (1, 1)):
        raise DataError(
            f"{source}: {module} has shapes that do not fit: A {tuple(down.shape)}, B {tuple(up.shape)}; "
            "expected (r, in[, kh, kw]) and (out, r[, 1, 1])"
        )
    if module.endswith(".attn2.to_k") and down.shape[1] == _SDXL_TEXT_WIDTH:
        raise DataError(
            f"{source} is for SDXL ({module} reads text {_SDXL_TEXT_WIDTH} wide); use one for SD 1.x or 2.x"
        )
    magnitude = tensors.get(f"{module}.{MAGNITUDE}")
    if magnitude is not None:
        if magnitude.numel() != up.shape[0]:
            raise DataError(
                f"{source}: {module} has {magnitude.numel()} DoRA magnitudes for {up.shape[0]} output channels"
            )
        tensors[f"{module}.{MAGNITUDE}"] = magnitude.reshape((-1,) if down.ndim == 2 else (1, -1, 1, 1))


def _check_control(control: dict[str, Tensor], source: Path) -> None:
    if not control:
        return
    odd = sorted(control.keys() - {_CONV_IN, "conv_in.bias"})
    if odd or _CONV_IN not in control:
        raise DataError(f"{source}: a condition channel is conv_in.weight and conv_in.bias, not {sorted(control)}")
    if control[_CONV_IN].ndim != 4 or control[_CONV_IN].shape[1] % 2:
        raise DataError(f"{source}: conv_in.weight has shape {tuple(control[_CONV_IN].shape)}, not (out, 2 C, kh, kw)")
    for key, value in control.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{source}: {key} of the condition channel holds NaN or infinity")
