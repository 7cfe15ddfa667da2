"""The one-time downloads of networks' weights that `photo-enhancer doctor` does when it is told to."""

from lora_core.errors import ConfigError
from lora_core.metrics.no_reference import REFERENCE_FREE
from lora_core.perceptual.weights import FILES, download_weights
from lora_core.settings import nearest

_PYIQA = {kind.name: kind for kind in REFERENCE_FREE}
NAMES = (*FILES, *_PYIQA)
"""What can be fetched."""


def download(name: str) -> str:
    """Fetches weights, unless they are here.

    Args:
        name: one of `NAMES`.

    Returns:
        Where they are, for a person.

    Raises:
        ConfigError: no such name.
        ResourceError: they cannot be had; the message says how to bring them by hand.
    """
    if name in FILES:
        return f"{FILES[name].label} weights: {download_weights(FILES[name])}"
    if name not in _PYIQA:
        raise ConfigError(f"no weights '{name}'{nearest(name, list(NAMES))}; there are {', '.join(NAMES)}")
    _PYIQA[name].download()
    return f"{_PYIQA[name].label} weights: in pyiqa's folder of the torch hub cache"
