"""FID and KID: how far generated pictures are, as a set, from photographs.

Both compare features of a network trained on ImageNet. Published numbers use the Inception of the TensorFlow authors;
here it is torchvision's `inception_v3` with IMAGENET1K_V1 weights and another resizing, so the names say so and the
numbers compare only with each other. The weights (108 MB) are read from the torch hub cache or from a named file and
never downloaded; their digest is checked, because any weights give numbers.

FID falls with the number of pictures (Chong & Forsyth 2020, arXiv:1911.07023): compare equal numbers only. KID is
unbiased and fits few pictures better.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from lora_core.errors import ConfigError, DataError
from lora_core.files import file_digest
from lora_core.perceptual import hub_weights

FEATURES = 2048
WEIGHTS_FILE = "inception_v3_google-0cc3c7bd.pth"
WEIGHTS_ADDRESS = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"
EXTRACTOR_NAME = "Inception v3, torchvision IMAGENET1K_V1 (not the TensorFlow one of published numbers)"

_DIGEST = "0cc3c7bd"  # torch hub writes the first digits of a file's sha256 into its name
_SIDE = 299
_BATCH = 16


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """FID: squared Fréchet distance of the Gaussians fitted to two sets of features; 0 is equal.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), Heusel et al. 2017 (arXiv:1706.08500), equation 6. With C = AᵀA of centred
    features A, the trace of the root is the sum of the singular values of A1 A2ᵀ. Unlike a matrix square root that is
    real and exact for singular covariances too, that is for fewer pictures than features.

    Args:
        first, second: (pictures, features), at least two pictures each; the covariances divide by pictures - 1.

    Raises:
        DataError: too few pictures, other widths, or values that are not finite.
    """
    first, second = _checked(first, second)
    one, other = (_triangle(features) for features in (first, second))
    cross = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    shift = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return max(0.0, float(shift + np.square(one).sum() + np.square(other).sum() - 2 * cross))


def _triangle(features: np.ndarray) -> np.ndarray:
    """R with RᵀR the sample covariance; (min(pictures, features), features) float64."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


@dataclass(frozen=True)
class KernelDistance:
    """KID over random subsets: its mean, and the standard deviation of a subset's value."""

    mean: float
    deviation: float


def kernel_distance(
    first: np.ndarray, second: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """KID: squared maximum mean discrepancy with the kernel (x·y / d + 1)³; about 0, also below, for equal sets.

    The unbiased estimate of Bińkowski et al. 2018 (arXiv:1801.01401), section 4, as the mean over random subsets
    without replacement.

    Args:
        first, second: (pictures, features), at least two pictures each.
        size: pictures of a subset, at most as many as the smaller set has.

    Raises:
        DataError: as `frechet_distance`.
    """
    first, second = _checked(first, second)
    size = min(size, len(first), len(second))
    random = np.random.default_rng(seed)
    values = [
        _discrepancy(
            first[random.choice(len(first), size, replace=False)],
            second[random.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _discrepancy(first: np.ndarray, second: np.ndarray) -> float:
    count = len(first)
    within = sum(
        (_kernel(one, one).sum() - np.trace(_kernel(one, one))) / (count * (count - 1)) for one in (first, second)
    )
    return float(within - 2 * _kernel(first, second).mean())


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for features in (first, second):
        if features.ndim != 2 or len(features) < 2:
            raise DataError(f"FID and KID need at least two pictures a set, (pictures, features); got {features.shape}")
        if not np.isfinite(features).all():
            raise DataError("FID and KID: a picture has features that are not finite")
    if first.shape[1] != second.shape[1]:
        raise DataError(f"FID and KID: features of {first.shape[1]} and {second.shape[1]} values do not compare")
    return first.astype(np.float64), second.astype(np.float64)


@dataclass(frozen=True)
class Unavailable:
    """Why there are no distances, and what mends it; a report says both instead of numbers."""

    reason: str
    remedy: str


class Extractor:
    """Features of pictures; `name` stands beside every number made from them."""

    def __init__(self, weights: Path, name: str) -> None:
        """Reads the network. Raises ConfigError where the file holds no `inception_v3`."""
        from torchvision.models import inception_v3  # type: ignore[import-untyped]

        self.name = name
        # transform_input only turns ImageNet's normalisation into the -1..1 that this network is given directly.
        self._network = inception_v3(weights=None, transform_input=False, aux_logits=True, init_weights=False)
        try:
            self._network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
        except Exception as error:  # torch.load has no base class for what a broken file makes it raise
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{weights} is not torchvision's inception_v3: {reason}") from error
        self._network.fc = torch.nn.Identity()
        self._network.eval().requires_grad_(False)

    def __call__(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Pooled features.

        Args:
            pictures: (h, w, 3) uint8 sRGB each, of any size; resized to 299 pixels a side (bilinear, antialiased).

        Returns:
            (pictures, 2048) float32.
        """
        with torch.inference_mode():
            parts = [self._network(torch.cat([_to_input(one) for one in group])) for group in _groups(pictures)]
        return torch.cat(parts).numpy() if parts else np.empty((0, FEATURES), np.float32)


def load_extractor(weights: Path | None = None) -> Extractor | Unavailable:
    """The network for FID and KID.

    Args:
        weights: a file to use instead of the torch hub cache; other weights than torchvision's are named by their
            digest and never pass as Inception's.

    Raises:
        ConfigError: the named file does not exist or holds no `inception_v3`.
    """
    path = hub_weights().with_name(WEIGHTS_FILE) if weights is None else weights.expanduser()
    if not path.is_file():
        if weights is not None:
            raise ConfigError(f"{path} is no file; name torchvision's {WEIGHTS_FILE}")
        return _unavailable(f"torchvision's Inception weights ({WEIGHTS_FILE}) are not in the torch hub cache", path)
    digest = file_digest(path)
    if digest.startswith(_DIGEST):
        return Extractor(path, EXTRACTOR_NAME)
    if weights is None:
        return _unavailable(f"{path} is damaged (its sha256 does not begin with {_DIGEST})", path)
    return Extractor(path, f"inception_v3 with own weights {digest[:8]}, not Inception's: compare with nothing else")


def _unavailable(reason: str, path: Path) -> Unavailable:
    return Unavailable(reason, f"fetch {WEIGHTS_ADDRESS} on any machine and save it as {path}")


def _groups(pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    iterator = iter(pictures)
    while group := list(islice(iterator, _BATCH)):
        yield group


def _to_input(rgb: np.ndarray) -> torch.Tensor:
    """(1, 3, 299, 299) float32 in -1..1."""
    tensor = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return functional.interpolate(tensor, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
