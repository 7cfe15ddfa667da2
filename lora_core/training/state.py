"""The saved state of a run: LoRA, optimiser, schedule and the updates made. Nothing else is needed to go on."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lora_core.errors import ConfigError, TrainingError
from lora_core.files import whole_folder, write_json
from lora_core.lora import Adapter


@dataclass
class RunState:
    """The parts of a run that change.

    Attributes:
        digest: what the run depends on; a state of another run is refused.
        updates: weight updates made.
        seconds: time spent in training so far, over all attempts.
    """

    digest: str
    adapter: Adapter
    optimiser: Any
    schedule: Any
    scaler: Any = None
    updates: int = 0
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        """Writes the state, whole or not at all.

        Raises:
            TrainingError: a weight is not finite; the last good state stays.
        """
        weights = self.adapter.state()
        for name, tensor in weights.items():
            if not math.isfinite(tensor.abs().sum().item()):
                raise TrainingError(f"the LoRA weight {name} is not finite; lower training.learning_rate")
        values = {
            "adapter": weights,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }
        with whole_folder(folder) as temporary:
            torch.save(values, temporary / "state.pt")
            write_json(
                temporary / "state.json", {"digest": self.digest, "updates": self.updates, "seconds": self.seconds}
            )

    def restore(self, folder: Path, header: dict[str, Any]) -> None:
        """Reads the state back in place.

        Raises:
            ConfigError: it belongs to another run.
        """
        if header["digest"] != self.digest:
            raise ConfigError(
                f"{folder} belongs to another experiment, data set or base; "
                "move the round's folder away or give the experiment another name"
            )
        values = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        self.adapter.load(values["adapter"])
        self.optimiser.load_state_dict(values["optimiser"])
        self.schedule.load_state_dict(values["schedule"])
        if self.scaler and values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self.updates, self.seconds = header["updates"], header["seconds"]
