"""LPIPS (Zhang et al. 2018): a backbone trained on ImageNet with linear heads fitted to human judgements.

The heads come with the `lpips` package, the backbone is read from one file.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lora_core.metrics import require_pair
from lora_core.metrics.core import require_side
from lora_core.perceptual.memory import Memory
from lora_core.perceptual.networks import device, inference, read_state, to_tensor
from lora_core.perceptual.weights import ALEXNET, SQUEEZENET, VGG16, WeightFile, Weights, not_these

if TYPE_CHECKING:
    import torch

Backbone = Literal["alex", "vgg", "squeeze"]


@dataclass(frozen=True)
class LpipsKind:
    """One of the three.

    Attributes:
        net: what the `lpips` package calls it.
        label: the name that stands beside every number.
        file: its backbone's weights.
        side: the smallest side that survives the pooling.
    """

    net: Backbone
    label: str
    file: WeightFile
    side: int

    @property
    def convention(self) -> str:
        """What exactly is computed."""
        return f"lpips 0.1, {_BACKBONES[self.net]}, heads v0.1; sRGB scaled to -1..1; mean over positions; 0 is equal"


_BACKBONES = {"alex": "AlexNet", "vgg": "VGG-16", "squeeze": "SqueezeNet 1.1"}
KINDS: dict[str, LpipsKind] = {
    "alex": LpipsKind("alex", "LPIPS (AlexNet v0.1)", ALEXNET, 31),
    "vgg": LpipsKind("vgg", "LPIPS (VGG-16 v0.1)", VGG16, 16),
    "squeeze": LpipsKind("squeeze", "LPIPS (SqueezeNet v0.1)", SQUEEZENET, 17),
}


class Lpips:
    """The `lpips` package on a backbone that is read from one file."""

    def __init__(self, kind: LpipsKind, weights: Weights) -> None:
        """Reads the network. Raises ConfigError where the file holds another one."""
        self._kind = kind
        self.network: torch.nn.Module = _network(kind, weights)
        self._originals = Memory(self._features)

    def to_device(self) -> "Lpips":
        """Moves the network to where pictures are scored."""
        self.network.to(device())
        return self

    def batch(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Distances, (n,) float64, of pictures and their originals, (n, h, w, 3) uint8 each.

        Raises:
            DataError: as `__call__`.
        """
        require_pair(first[0], second[0])
        require_side(first[0], self._kind.side, "LPIPS")
        with inference():
            ours, originals = self._features(first), self._originals(second)
            heads: Any = self.network.lins
            layers = zip(heads, ours, originals, strict=True)
            distances = sum(head((one - other) ** 2).mean((1, 2, 3)) for head, one, other in layers)
            return np.asarray(distances.double().cpu().numpy())

    def _features(self, pictures: np.ndarray) -> "list[torch.Tensor]":
        """Normalised feature maps of the backbone's layers, as the package's own forward makes them."""
        import lpips

        network: Any = self.network
        maps = network.net(network.scaling_layer(to_tensor(pictures) * 2 - 1))
        return [lpips.normalize_tensor(one) for one in maps]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """The distance of a picture and its original, (h, w, 3) uint8. Raises DataError: other sizes, or too small."""
        require_pair(first, second)
        return float(self.batch(first[None], second[None])[0])


def _network(kind: LpipsKind, weights: Weights) -> "torch.nn.Module":
    """The package's module, its own heads on our backbone, without the seconds that drawing random weights takes."""
    import lpips
    import torch

    with warnings.catch_warnings(), torch.device("meta"):  # shapes without values
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # lpips asks in the old way
        # pnet_rand keeps the package from downloading.
        network = lpips.LPIPS(net=kind.net, version="0.1", pnet_rand=True, pretrained=False, verbose=False)
    network.scaling_layer = type(network.scaling_layer)()
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{kind.net}.pth"
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False, assign=True)
    state = read_state(weights)
    try:
        # `slice2.3.weight` of the package's slices is `features.3.weight` in torchvision's file.
        names = {name: "features." + name.partition(".")[2] for name in network.net.state_dict()}
        network.net.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=True, assign=True)
    except (KeyError, RuntimeError) as error:  # RuntimeError: other shapes
        raise not_these(weights, error) from error
    frozen: torch.nn.Module = network.eval().requires_grad_(False)
    return frozen
