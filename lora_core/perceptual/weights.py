"""Files of network weights: where they lie, whether they are the published ones, and how they get here.

torchvision's backbones and the heads of DISTS are read from the torch hub cache or from a file that the experiment
names. A run never downloads them: `photo-enhancer doctor` does, once, when it is told to. Files are checked by digest,
because a network with other weights also gives numbers, and they mean nothing beside published ones: a file of one's
own is used under a name that carries its digest. Imports no torch.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_core.errors import ConfigError, ResourceError
from lora_core.files import file_digest

WeightsName = Literal["alexnet", "vgg16", "squeezenet", "dists"]


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: what the command line calls it.
        label: whose weights they are.
        file: its name in the torch hub cache.
        digest: the first digits of its sha256, which its makers write into its name.
        address: where it is published.
        key: the setting that names another copy.
    """

    name: WeightsName
    label: str
    file: str
    digest: str
    address: str
    key: str

    @property
    def path(self) -> Path:
        """Where it lies in the torch hub cache."""
        return hub_weights(self.file)

    @property
    def download_command(self) -> str:
        """What a person runs to get it."""
        option = "--download-lpips" if self.name == "alexnet" else f"--download-weights {self.name}"
        return f"photo-enhancer doctor {option}"


@dataclass(frozen=True)
class Weights:
    """A file that is there.

    Attributes:
        file: which published one it is, or stands for.
        path: where it lies.
        digest: of its bytes, eight digits.
    """

    file: WeightFile
    path: Path
    digest: str

    @property
    def published(self) -> bool:
        """Whether it holds the published bytes."""
        return self.digest == self.file.digest

    @property
    def remark(self) -> str:
        """Stands behind a metric's name where the weights are not the published ones."""
        return "" if self.published else f"own {self.file.label} weights {self.digest}"


_TORCHVISION = "https://download.pytorch.org/models/"
ALEXNET = WeightFile(
    "alexnet", "torchvision's AlexNet", "alexnet-owt-7be5be79.pth", "7be5be79",
    f"{_TORCHVISION}alexnet-owt-7be5be79.pth", "scoring.lpips_weights",
)  # fmt: skip
VGG16 = WeightFile(
    "vgg16", "torchvision's VGG-16", "vgg16-397923af.pth", "397923af",
    f"{_TORCHVISION}vgg16-397923af.pth", "scoring.vgg_weights",
)  # fmt: skip
SQUEEZENET = WeightFile(
    "squeezenet", "torchvision's SqueezeNet 1.1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0",
    f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth", "scoring.squeezenet_weights",
)  # fmt: skip
DISTS_HEADS = WeightFile(
    "dists", "the DISTS authors' heads", "DISTS_weights-f5e65c96.pth", "f5e65c96",
    "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/DISTS_weights-f5e65c96.pth",
    "scoring.dists_weights",
)  # fmt: skip
FILES: dict[str, WeightFile] = {file.name: file for file in (ALEXNET, VGG16, SQUEEZENET, DISTS_HEADS)}


def hub_weights(name: str = ALEXNET.file) -> Path:
    """Where torch hub keeps torchvision's weights, AlexNet's by default (as `torch.hub.get_dir()`, without torch)."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints" / name


def find_weights(file: WeightFile, named: str | None) -> Weights:
    """The file that a run would read.

    Args:
        file: which weights.
        named: the experiment's own file, or None for the torch hub cache.

    Raises:
        ConfigError: the named file does not exist.
        ResourceError: the cache lacks it or holds something else.
    """
    if named is not None:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{file.key}: {path} is no file; leave it empty and run: {file.download_command}")
        return Weights(file, path, file_digest(path)[:8])
    if (missing := why_not_in_cache(file)) is not None:
        raise ResourceError(f"{missing}; run once: {file.download_command} (or name a copy under {file.key})")
    return Weights(file, file.path, file.digest)


def why_not_in_cache(file: WeightFile) -> str | None:
    """What is wrong with the file in the hub cache, in words; None where it is good."""
    if not file.path.is_file():
        return f"{file.label} weights ({file.file}) are not in the torch hub cache"
    if not file_digest(file.path).startswith(file.digest):
        return f"{file.path} is damaged (its sha256 does not begin with {file.digest})"
    return None


def download_weights(file: WeightFile, url: str | None = None) -> Path:
    """Puts a published file into the torch hub cache, unless it is there already.

    Args:
        file: which.
        url: another address of the same bytes; by default the published one.

    Returns:
        The file, whose digest has been checked.

    Raises:
        ResourceError: it cannot be had; the message says how to bring it by hand.
    """
    import torch

    target = file.path
    if why_not_in_cache(file) is None:
        return target
    address = url or file.address
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(target), hash_prefix=file.digest)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the digest does not fit
        raise ResourceError(
            f"cannot download {address}: {error}; fetch it on another machine and save it as {target}, "
            f"or name your copy under {file.key}"
        ) from error
    return target


def not_these(weights: Weights, error: Exception) -> ConfigError:
    """The refusal of a file that holds something else."""
    reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
    return ConfigError(f"{weights.file.key}: {weights.path} is not {weights.file.label}: {reason}")
