"""The perceptual distance: LPIPS where its weights are at hand, else GMSD under its own name.

LPIPS (Zhang et al. 2018) is AlexNet trained on ImageNet with linear heads that were fitted to human judgements. The
heads come with the `lpips` package; the AlexNet is torchvision's file of 233 MB, which is read from the torch hub
cache or from the file that the experiment names. A run never downloads it: `photo-enhancer doctor --download-lpips`
does, once. The weights are checked by digest, because an AlexNet with other weights also gives numbers, and they mean
nothing beside published ones: such a file is scored under a name that carries its digest.

torch is imported only when LPIPS is used.
"""

import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.experiment import ScoringSection
from lora_core.files import file_digest
from lora_core.metrics import CONVENTIONS, gmsd, require_pair

if TYPE_CHECKING:
    import torch

LPIPS_NAME = "LPIPS (AlexNet v0.1)"
GMSD_NAME = "GMSD"
DOWNLOAD_COMMAND = "photo-enhancer doctor --download-lpips"

_WEIGHTS_FILE = "alexnet-owt-7be5be79.pth"
_WEIGHTS_DIGEST = "7be5be79"  # torch hub writes the first digits of a file's sha256 into its name
_LPIPS_CONVENTION = "lpips 0.1, AlexNet, heads v0.1; sRGB scaled to -1..1; mean over positions; 0 is equal"
_LPIPS_SIDE = 31  # the smallest side that survives AlexNet's pooling
_SLICES = {"slice1": 0, "slice2": 3, "slice3": 6, "slice4": 8, "slice5": 10}  # the convolution in each


@dataclass(frozen=True)
class Perceptual:
    """A perceptual distance of two (h, w, 3) uint8 sRGB pictures of equal size; 0 is equal, lower is better.

    Attributes:
        name: stands beside every number.
        reason: why this metric; where LPIPS is missing, with the command that mends it.
        convention: what exactly is computed.
        distance: the function itself.
    """

    name: str
    reason: str
    convention: str
    distance: Callable[[np.ndarray, np.ndarray], float]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """The distance. Raises DataError where the sizes differ or are too small for the metric."""
        return self.distance(first, second)


def choose_perceptual(section: ScoringSection) -> Perceptual:
    """The metric that the experiment asks for.

    Raises:
        ConfigError: the named weights do not exist or are no AlexNet.
        ResourceError: LPIPS is asked for and its weights are not here.
    """
    if section.perceptual == "gmsd":
        return _gmsd("chosen by scoring.perceptual: gmsd")
    if section.lpips_weights is not None:
        return _lpips_from(_named_weights(section.lpips_weights))
    missing = _why_not_in_cache()
    if missing is None:
        return _published(hub_weights())
    way_out = f"run once: {DOWNLOAD_COMMAND}"
    if section.perceptual == "lpips":
        raise ResourceError(f"scoring.perceptual is lpips, but {missing}; {way_out} (or set scoring.perceptual=auto)")
    return _gmsd(f"GMSD instead of LPIPS: {missing}; {way_out}")


def lpips_module(section: ScoringSection) -> "torch.nn.Module":
    """LPIPS as a frozen module of two float32 batches (batch, 3, height, width) in [-1, 1], for a loss.

    Raises:
        ConfigError: the named weights do not exist or are no AlexNet.
        ResourceError: no weights are here.
    """
    network: torch.nn.Module = _Lpips(require_lpips_weights(section)).network
    return network


def require_lpips_weights(section: ScoringSection) -> Path:
    """The file of AlexNet's weights that a loss would use. Raises as `lpips_module`, but for what is in the file."""
    if section.lpips_weights is None:
        if (missing := _why_not_in_cache()) is not None:
            raise ResourceError(
                f"objective.pixel_lpips: {missing}; run once: {DOWNLOAD_COMMAND} (or set objective.pixel_lpips=0)"
            )
        return hub_weights()
    return _named_weights(section.lpips_weights)


def hub_weights(name: str = _WEIGHTS_FILE) -> Path:
    """Where torch hub keeps torchvision's weights, AlexNet's by default (as `torch.hub.get_dir()`, without torch)."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints" / name


def download_lpips_weights(url: str | None = None) -> Path:
    """Puts torchvision's AlexNet into the torch hub cache, unless it is there already.

    Args:
        url: another address of the same file; by default torchvision's own.

    Returns:
        The file, whose digest has been checked.

    Raises:
        ResourceError: it cannot be had; the message says how to bring it by hand.
    """
    import torch
    from torchvision.models import AlexNet_Weights  # type: ignore[import-untyped]

    target = hub_weights()
    if target.is_file() and _is_published(target):
        return target
    address = url or AlexNet_Weights.IMAGENET1K_V1.url
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(target), hash_prefix=_WEIGHTS_DIGEST)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the digest does not fit
        raise ResourceError(
            f"cannot download {address}: {error}; fetch it on another machine and save it as {target}, "
            "or name your copy under scoring.lpips_weights"
        ) from error
    return target


def _gmsd(reason: str) -> Perceptual:
    return Perceptual(GMSD_NAME, reason, CONVENTIONS["gmsd"], gmsd)


def _why_not_in_cache() -> str | None:
    """What is wrong with the weights in the hub cache, in words; None where they are good."""
    path = hub_weights()
    if not path.is_file():
        return f"torchvision's AlexNet weights ({_WEIGHTS_FILE}) are not in the torch hub cache"
    if not _is_published(path):
        return f"{path} is damaged (its sha256 does not begin with {_WEIGHTS_DIGEST})"
    return None


def _is_published(path: Path) -> bool:
    return file_digest(path).startswith(_WEIGHTS_DIGEST)


def _published(path: Path) -> Perceptual:
    return Perceptual(LPIPS_NAME, "torchvision's AlexNet weights are at hand", _LPIPS_CONVENTION, _Lpips(path))


def _named_weights(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"scoring.lpips_weights: {path} is no file; leave it empty and run: {DOWNLOAD_COMMAND}")
    return path


def _lpips_from(path: Path) -> Perceptual:
    """LPIPS on a file that the user names."""
    if _is_published(path):
        return _published(path)
    digest = file_digest(path)[:8]
    return Perceptual(
        name=f"LPIPS (AlexNet v0.1, own weights {digest})",
        reason=f"scoring.lpips_weights names a file that is not torchvision's {_WEIGHTS_FILE}: "
        "these numbers cannot be compared with published LPIPS",
        convention=f"{_LPIPS_CONVENTION}; AlexNet weights with sha256 {digest}..., not the published ones",
        distance=_Lpips(path),
    )


class _Lpips:
    """The `lpips` package on a backbone that is read from one file."""

    def __init__(self, weights: Path) -> None:
        import lpips

        convolutions = _read_convolutions(weights)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # lpips asks in the old way
            # pnet_rand only keeps the package from downloading: every backbone weight is replaced on the next line.
            self.network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        try:
            self.network.net.load_state_dict(convolutions, strict=True)
        except RuntimeError as error:  # other shapes
            raise _no_alexnet(weights, error) from error
        self.network.eval().requires_grad_(False)
        self._one_at_a_time = threading.Lock()  # torch uses all cores for one picture

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        import torch

        require_pair(first, second)
        if min(first.shape[:2]) < _LPIPS_SIDE:
            size = f"{first.shape[1]}x{first.shape[0]}"
            raise DataError(f"LPIPS needs pictures of at least {_LPIPS_SIDE}x{_LPIPS_SIDE} pixels, this one has {size}")
        with self._one_at_a_time, torch.inference_mode():
            return float(self.network(_to_tensor(first), _to_tensor(second)))


def _to_tensor(rgb: np.ndarray) -> "torch.Tensor":
    """(1, 3, h, w) float32 in -1..1."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _read_convolutions(path: Path) -> "dict[str, torch.Tensor]":
    """`features.N.weight|bias` of torchvision's AlexNet, all ten, under the names that they have in lpips' slices.

    Raises:
        ConfigError: the file holds something else.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {
            f"{name}.{layer}.{part}": state[f"features.{layer}.{part}"]
            for name, layer in _SLICES.items()
            for part in ("weight", "bias")
        }
    except Exception as error:  # torch.load has no base class for what a broken file makes it raise
        raise _no_alexnet(path, error) from error


def _no_alexnet(path: Path, error: Exception) -> ConfigError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
    return ConfigError(f"scoring.lpips_weights: {path} is not torchvision's AlexNet: {reason}")
