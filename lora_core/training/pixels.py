"""Loss terms on pixels: the clean latents that the model's answer means, decoded, against the decoded clean ones.

The target is D(z_c), not the photograph: what the autoencoder cannot show, no LoRA can learn. MSE in latents gives the
mean of all photographs that fit, which looks soft; a perceptual term pays for texture (Johnson et al. 2016, Zhang et
al. 2018).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_core.bases.base import Base
from lora_core.errors import ConfigError
from lora_core.experiment import ObjectiveSection, ScoringSection
from lora_core.perceptual import lpips_module
from lora_core.training.preflight import vgg_weights

PixelDistance = Callable[[Tensor, Tensor], Tensor]
"""Two float32 batches (batch, 3, height, width) in [-1, 1] to float32 (batch,)."""

_VGG_LAYERS = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3, relu4_3
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PixelTerms:
    """The weighted pixel distances of an experiment, by name."""

    def __init__(self, base: Base, distances: Sequence[tuple[str, float, PixelDistance]]):
        self.base, self.distances = base, distances

    def __call__(self, x0: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Each weighted distance, float32 (batch,); gradients flow through the decoder into `x0`.

        Args:
            x0: the clean latents that the answer means, (batch, channels, height, width).
            clean: the clean latents, same shape.
        """
        pixels = self.base.decode_with_gradient(x0)
        with torch.no_grad():  # in a batch as x0 is, so that both round alike
            target = self.base.decode_with_gradient(clean)
        return {name: weight * distance(pixels, target) for name, weight, distance in self.distances}


def pixel_terms(base: Base, objective: ObjectiveSection, scoring: ScoringSection) -> PixelTerms | None:
    """The terms with a weight above 0, or None.

    Raises:
        ResourceError: weights of LPIPS or VGG are not here.
        ConfigError: a named file does not hold them.
    """
    distances: list[tuple[str, float, PixelDistance]] = []
    if objective.pixel_l1:
        distances.append(("pixel_l1", objective.pixel_l1, _l1))
    if objective.pixel_lpips:
        network = lpips_module(scoring).to(base.device)
        distances.append(("pixel_lpips", objective.pixel_lpips, lambda one, other: network(one, other).flatten()))
    if objective.pixel_vgg:
        distances.append(("pixel_vgg", objective.pixel_vgg, VggFeatures(vgg_weights(objective)).to(base.device)))
    return PixelTerms(base, distances) if distances else None


class VggFeatures(nn.Module):
    """Mean L1 distance of VGG-16's features at four depths, each layer's mean counted once."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: Path):
        super().__init__()
        from torchvision.models import vgg16  # type: ignore[import-untyped]

        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            layers = vgg16().features
            layers.load_state_dict({key.removeprefix("features."): state[key] for key in state if "features." in key})
        except Exception as error:  # torch.load has no base class for what a broken file makes it raise
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"objective.vgg_weights: {weights} is not torchvision's VGG-16: {reason}") from error
        self.layers = layers[: _VGG_LAYERS[-1] + 1].eval().requires_grad_(False)
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Two float32 batches in [-1, 1] to float32 (batch,)."""
        features = torch.cat([((pixels + 1) / 2 - self.mean) / self.deviation for pixels in (one, other)])
        distances = []
        for number, layer in enumerate(self.layers):
            features = layer(features)
            if number in _VGG_LAYERS:
                ours, theirs = features.chunk(2)
                distances.append(_l1(ours, theirs))
        return torch.stack(distances).mean(dim=0)


def _l1(one: Tensor, other: Tensor) -> Tensor:
    return functional.l1_loss(one, other, reduction="none").mean(dim=(1, 2, 3))
