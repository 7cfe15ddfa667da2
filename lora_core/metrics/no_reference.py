"""Metrics that judge a picture without its original, through pyiqa, an optional extra.

Their weights are read from pyiqa's place in the torch hub cache and are never downloaded by a run. pyiqa keeps some of
them as pickles, which it opens as such: take them from its own addresses only, as `download` does.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lora_core.errors import ResourceError
from lora_core.perceptual.weights import hub_weights

INSTALL = "pip install 'photo-enhancer[iqa]'"
Batched = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ReferenceFree:
    """One of pyiqa's metrics.

    Attributes:
        name: what pyiqa and the tables call it.
        label: what a person calls it.
        lower_is_better: else higher is.
        side: the smallest side of a picture, in pixels.
        about: what it is, for the tables.
        files: its weights, in torch hub's folder.
        hub_file: repository and file of a backbone in the Hugging Face cache, or None.
    """

    name: str
    label: str
    lower_is_better: bool
    side: int
    about: str
    files: tuple[str, ...]
    hub_file: tuple[str, str] | None = None

    def check(self) -> None:
        """Raises ResourceError where pyiqa or the weights are not here. Imports neither torch nor pyiqa."""
        if find_spec("pyiqa") is None:
            raise ResourceError(
                f"scoring.metrics: {self.name} needs pyiqa; install it with {INSTALL}, or leave {self.name} out"
            )
        if missing := self._missing():
            raise ResourceError(
                f"scoring.metrics: the weights of {self.name} ({missing[0]}) are not here; run once: "
                f"photo-enhancer doctor --download-weights {self.name}, or leave {self.name} out"
            )

    def download(self) -> None:
        """Lets pyiqa fetch the weights. Raises ResourceError where it cannot."""
        if find_spec("pyiqa") is None:
            raise ResourceError(f"{self.name} needs pyiqa; install it with {INSTALL}")
        try:
            _create(self.name)
        except Exception as error:  # whatever the network and three libraries make it raise
            reason = " ".join(str(error).split())[:200]
            raise ResourceError(f"pyiqa cannot load or fetch the weights of {self.name}: {reason}") from error

    def _missing(self) -> list[str]:
        missing = [str(path) for name in self.files if not (path := _place(name)).is_file()]
        if self.hub_file is not None:
            from huggingface_hub import try_to_load_from_cache

            if not isinstance(try_to_load_from_cache(*self.hub_file), str):
                missing.append("/".join(self.hub_file))
        return missing


REFERENCE_FREE = (
    ReferenceFree("niqe", "NIQE", True, 192, "natural scene statistics", ("pyiqa/niqe_modelparameters.mat",)),
    ReferenceFree(
        "musiq", "MUSIQ", False, 32, "trained on KonIQ-10k, 0 to 100", ("pyiqa/musiq_koniq_ckpt-e95806b9.pth",)
    ),
    ReferenceFree("clipiqa", "CLIP-IQA", False, 32, "CLIP RN50, 0 to 1", ("clip/RN50.pt",)),
    ReferenceFree(
        "maniqa", "MANIQA", False, 224, "trained on KonIQ-10k, 0 to 1", ("pyiqa/ckpt_koniq10k.pt",),
        ("timm/vit_base_patch8_224.augreg2_in21k_ft_in1k", "model.safetensors"),
    ),
)  # fmt: skip


def open_reference_free(kind: ReferenceFree) -> tuple[str, Batched]:
    """The convention and the function of one; the originals play no part.

    Raises:
        ResourceError: pyiqa or the weights are not here, or do not load.
    """
    from lora_core.perceptual.networks import inference, to_tensor

    kind.check()
    try:
        network = _create(kind.name)
    except Exception as error:  # of three libraries
        reason = " ".join(str(error).split())[:200]
        raise ResourceError(f"scoring.metrics: pyiqa cannot load {kind.name}: {reason}") from error

    def measure(restored: np.ndarray, originals: np.ndarray) -> np.ndarray:
        with inference():
            values = [network(to_tensor(picture[None])) for picture in restored]  # some answer for a batch as a whole
        return np.array([float(value) for value in values])

    better = "lower" if kind.lower_is_better else "higher"
    return f"pyiqa {metadata.version('pyiqa')}, {kind.name}: {kind.about}; {better} is better; no original", measure


def _create(name: str) -> Callable[..., float]:
    import pyiqa

    from lora_core.perceptual.networks import device

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it loads
        network: Callable[..., float] = pyiqa.create_metric(name, device=device())
    return network


def _place(name: str) -> Path:
    """A file beside torch hub's checkpoints, where pyiqa keeps its own."""
    return hub_weights().parents[1] / name
