"""DISTS (Ding et al. 2020, arXiv:2004.07728): similarity of texture and structure in the features of VGG-16.

The weights of the layers, alpha and beta, were fitted by the authors and are read from their file.
"""

from typing import TYPE_CHECKING

import numpy as np

from lora_core.metrics import require_pair
from lora_core.metrics.core import require_side
from lora_core.perceptual.memory import Memory
from lora_core.perceptual.networks import device, inference, read_state, to_tensor
from lora_core.perceptual.weights import Weights, not_these

if TYPE_CHECKING:
    from torch import Tensor

CONVENTION = "VGG-16 with L2 pooling, authors' alpha and beta; sRGB in 0..1, ImageNet's mean and deviation; 0 is equal"
SIDE = 16

_CHANNELS = (3, 64, 128, 256, 512, 512)
_STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
"""Layers of each stage up to relu1_2, relu2_2, relu3_3, relu4_3, relu5_3; between them, poolings are replaced."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_C = 1e-6
_POOLING_WINDOW = (0.5, 1.0, 0.5)  # numpy.hanning(5) without its zeros


class Dists:
    """The network, on the GPU where there is one."""

    def __init__(self, backbone: Weights, heads: Weights) -> None:
        """Reads the network. Raises ConfigError where a file holds something else."""
        import torch
        from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

        layers, state, fitted = make_layers(cfgs["D"]), read_state(backbone), read_state(heads)
        try:
            layers.load_state_dict({name: state[f"features.{name}"] for name in layers.state_dict()}, strict=True)
        except (KeyError, RuntimeError) as error:
            raise not_these(backbone, error) from error
        try:
            alpha, beta = (fitted[name].reshape(sum(_CHANNELS)).double() for name in ("alpha", "beta"))
        except (KeyError, RuntimeError) as error:
            raise not_these(heads, error) from error
        total = alpha.sum() + beta.sum()
        place = device()
        self._layers = layers.eval().requires_grad_(False).to(place)
        self._alpha, self._beta = ((part / total).float().to(place).split(_CHANNELS) for part in (alpha, beta))
        self._originals = Memory(self._features)
        self._mean, self._deviation = (torch.tensor(part, device=place).view(3, 1, 1) for part in (_MEAN, _DEVIATION))

    def batch(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Distances, (n,) float64, of pictures and their originals, (n, h, w, 3) uint8 each.

        Raises:
            DataError: the sizes differ or are smaller than 16x16.
        """
        import torch

        require_pair(first[0], second[0])
        require_side(first[0], SIDE, "DISTS")
        with inference():
            layers = zip(self._features(first), self._originals(second), self._alpha, self._beta, strict=True)
            similarity = torch.stack([_similarity(*layer) for layer in layers]).sum(0)
            return np.asarray((1 - similarity).double().cpu().numpy())

    def _features(self, pictures: np.ndarray) -> "list[Tensor]":
        """The pictures themselves, (n, 3, h, w), and the five feature maps."""
        pixels = to_tensor(pictures)
        features = [pixels]
        x = (pixels - self._mean) / self._deviation
        for first, last in _STAGES:
            x = self._layers[first:last](_pooled(x) if first else x)
            features.append(x)
        return features


def _pooled(x: "Tensor") -> "Tensor":
    """L2 pooling: the root of the blurred squares, at every other pixel; equation 5 of the paper."""
    import torch
    from torch.nn import functional

    window = torch.tensor(_POOLING_WINDOW, device=x.device)
    kernel = (window[:, None] * window / window.sum() ** 2).expand(x.shape[1], 1, 3, 3)
    return (functional.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def _similarity(one: "Tensor", other: "Tensor", alpha: "Tensor", beta: "Tensor") -> "Tensor":
    """Of one layer, (n,): texture (means) weighted by alpha plus structure (covariances) by beta; equations 6 to 8."""
    mean_1, mean_2 = one.mean((2, 3)), other.mean((2, 3))
    variance_1 = (one - mean_1[..., None, None]).square().mean((2, 3))
    variance_2 = (other - mean_2[..., None, None]).square().mean((2, 3))
    covariance = (one * other).mean((2, 3)) - mean_1 * mean_2
    texture = (2 * mean_1 * mean_2 + _C) / (mean_1**2 + mean_2**2 + _C)
    structure = (2 * covariance + _C) / (variance_1 + variance_2 + _C)
    return (alpha * texture + beta * structure).sum(1)
