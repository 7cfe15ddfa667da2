"""What a training run needs beside photographs and base, checked before anything expensive. Imports no torch."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lora_core.errors import ConfigError, ResourceError
from lora_core.experiment import Experiment, ObjectiveSection
from lora_core.perceptual import hub_weights, require_lpips_weights

VGG_FILE = "vgg16-397923af.pth"


def check_training(experiment: Experiment) -> None:
    """Checks trackers, weights of pixel losses and the LoRA to start from.

    Raises:
        ConfigError: a tracker is not installed, a named file does not exist.
        ResourceError: weights are not in the torch hub cache.
    """
    require_trackers(experiment.monitoring.trackers)
    if experiment.objective.pixel_lpips:
        require_lpips_weights(experiment.scoring)
    if experiment.objective.pixel_vgg:
        vgg_weights(experiment.objective)
    warm_start_files(experiment)


def require_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError for a tracker that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"monitoring.trackers: {name} is not installed; install photo-enhancer[trackers] or leave it out"
            )


def vgg_weights(objective: ObjectiveSection) -> Path:
    """The file of torchvision's VGG-16.

    Raises:
        ConfigError: the named file does not exist.
        ResourceError: it is not in the torch hub cache.
    """
    if objective.vgg_weights is None:
        path = hub_weights(VGG_FILE)
        if not path.is_file():
            raise ResourceError(
                f"objective.pixel_vgg: torchvision's VGG-16 weights ({VGG_FILE}) are not in the torch hub cache; "
                f"save them as {path}, name a copy under objective.vgg_weights, or set objective.pixel_vgg=0"
            )
        return path
    path = Path(objective.vgg_weights).expanduser()
    if not path.is_file():
        raise ConfigError(f"objective.vgg_weights: {path} is no file; leave it empty to use the torch hub cache")
    return path


def warm_start_files(experiment: Experiment) -> list[Path]:
    """The files of the LoRA to start from; none where the experiment names none.

    Raises:
        ConfigError: there is nothing under that name.
    """
    if not experiment.adapter.warm_start:
        return []
    path = Path(experiment.adapter.warm_start).expanduser()
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise ConfigError(f"adapter.warm_start: {path} is no .safetensors file and no folder that holds one")
    return files
