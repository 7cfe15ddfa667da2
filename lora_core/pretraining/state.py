"""The saved state of a base training: weights, their moving average, optimisers and the validations so far.

The order of images, every random draw and the learning rate are functions of the position, so nothing else is needed
to go on as if nothing had happened.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_core.errors import ConfigError, TrainingError
from lora_core.files import read_json, whole_folder, write_json


@dataclass
class State:
    """What changes in a run.

    Attributes:
        digest: of everything that the run depends on; a state of another run is refused.
        module: the trained module, unwrapped.
        average: moving average of the trained weights (EMA), or empty.
        updates: weight updates made.
        validations: {"images", "epoch", "loss", …} of each validation so far.
        seconds: time in training over all attempts; `waited` is the part that was spent waiting for images.
    """

    digest: str
    module: nn.Module
    optimisers: list[torch.optim.Optimizer]
    average: dict[str, Tensor] = field(default_factory=dict)
    scaler: Any = None
    updates: int = 0
    validations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained weights by name."""
        return {name: weight for name, weight in self.module.named_parameters() if weight.requires_grad}

    def start_average(self) -> None:
        """Begins the moving average at the weights as they are."""
        self.average = {name: weight.detach().clone() for name, weight in self.trained().items()}

    def update_average(self, keep: float) -> None:
        """average = keep * average + (1 - keep) * weights."""
        if self.average:
            weights = self.trained()
            torch._foreach_lerp_(
                list(self.average.values()), [weights[name].detach() for name in self.average], 1 - keep
            )

    def swap_average(self) -> None:
        """Exchanges weights and average; called before and after validating or saving what the average has learnt."""
        weights = self.trained()
        for name, value in self.average.items():
            kept = weights[name].detach().clone()
            weights[name].data.copy_(value)
            value.copy_(kept)

    def require_finite(self) -> None:
        """Raises TrainingError naming the first weight that is not finite."""
        for name, weight in self.trained().items():
            if not torch.isfinite(weight).all():
                raise TrainingError(f"the weight {name} is not finite; lower the learning rate. The last state is kept")

    def save(self, folder: Path) -> None:
        """Writes the state, whole or not at all. Raises TrainingError where a weight is not finite."""
        self.require_finite()
        values = {
            "weights": {name: weight.detach().contiguous() for name, weight in self.trained().items()},
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }
        header = {"digest": self.digest, "updates": self.updates, "seconds": self.seconds, "waited": self.waited}
        with whole_folder(folder) as temporary:
            torch.save(values, temporary / "state.pt")
            write_json(temporary / "state.json", {**header, "validations": self.validations})

    def restore(self, folder: Path) -> None:
        """Reads the state back in place.

        Raises:
            ConfigError: it belongs to another recipe, data set or architecture.
        """
        header = read_json(folder / "state.json")
        values = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        weights = self.trained()
        wrong = [
            name
            for name, value in values["weights"].items()
            if name not in weights or weights[name].shape != value.shape
        ]
        if wrong or len(weights) != len(values["weights"]):
            name = wrong[0] if wrong else next(name for name in weights if name not in values["weights"])
            raise ConfigError(
                f"{folder} holds the state of another architecture ({name} differs); give the recipe's unet and "
                "autoencoder sections as they were, or move the folder away to start again"
            )
        if header["digest"] != self.digest:
            raise ConfigError(
                f"{folder} holds the state of another recipe or data set; give the recipe as it was, "
                "or move the folder away to start again"
            )
        with torch.no_grad():
            for name, value in values["weights"].items():
                weights[name].copy_(value)
        device = next(iter(weights.values())).device
        self.average = {name: value.to(device) for name, value in values["average"].items()}
        for optimiser, saved in zip(self.optimisers, values["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if self.scaler and values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self.updates, self.validations = header["updates"], header["validations"]
        self.seconds, self.waited = header["seconds"], header["waited"]
