"""The saved states of a run: LoRA, optimiser, schedule, average, validations, updates made. Nothing else is needed.

A state is a folder named after the images seen, whole or absent; the newest ones and the one with the best validation
are kept. It knows nothing of how a batch is split, so a run may go on with another batch size, accumulation or number
of processes, as long as their product is the same.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from lora_core.errors import ConfigError, LossError
from lora_core.files import read_json, whole_folder, write_json
from lora_core.lora import Adapter
from lora_core.training.optimiser import Average


@dataclass
class RunState:
    """The parts of a run that change.

    Attributes:
        digest: what the run depends on; a state of another run is refused.
        updates: weight updates made.
        seconds: time spent in training so far, over all attempts.
        validations: rows of {"update", "images", "epoch", "loss"}.
        average: the moving average, where the experiment wants one.
    """

    digest: str
    adapter: Adapter
    optimiser: Any
    schedule: Any
    scaler: Any = None
    average: Average | None = None
    updates: int = 0
    seconds: float = 0.0
    validations: list[dict[str, Any]] = field(default_factory=list)

    def require_finite(self) -> None:
        """Raises LossError where a weight is not finite, before anything good is replaced."""
        for part, named in (("unet", self.adapter.unet), ("text_encoder", self.adapter.text_encoder)):
            for name, parameter in named.items():
                if not math.isfinite(parameter.detach().abs().sum().item()):
                    raise LossError(f"the LoRA weight {part}.{name} is not finite; lower training.learning_rate")

    def save(self, folder: Path) -> None:
        """Writes the state, whole or not at all.

        Raises:
            LossError: a weight is not finite; the last good state stays.
        """
        self.require_finite()
        values = {
            "adapter": [parameter.detach().cpu() for parameter in self.adapter.parameters()],
            "average": self.average.values if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }
        header = {
            "digest": self.digest,
            "updates": self.updates,
            "seconds": self.seconds,
            "validations": self.validations,
        }
        with whole_folder(folder) as temporary:
            torch.save(values, temporary / "state.pt")
            write_json(temporary / "state.json", header)

    @torch.no_grad()
    def restore(self, folder: Path) -> None:
        """Reads the state back in place.

        Raises:
            ConfigError: it belongs to another run.
        """
        header = read_json(folder / "state.json")
        if header["digest"] != self.digest:
            raise ConfigError(
                f"{folder} belongs to another experiment, data set or base; "
                "move the round's folder away or give the experiment another name"
            )
        values = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        for parameter, saved in zip(self.adapter.parameters(), values["adapter"], strict=True):
            parameter.copy_(saved)
        if self.average:
            for ours, saved in zip(self.average.values, values["average"], strict=True):
                ours.copy_(saved)
        self.optimiser.load_state_dict(values["optimiser"])
        self.schedule.load_state_dict(values["schedule"])
        if self.scaler and values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self.updates, self.seconds = header["updates"], header["seconds"]
        self.validations = header["validations"]


def newest_state(folder: Path) -> Path | None:
    """The whole state with the most images seen."""
    return max(filter(_is_whole, folder.glob("images-*/")), default=None)


def keep_states(folder: Path, images: int, best_images: int | None, newest: int) -> None:
    """Deletes the states but the `newest` ones up to `images` and the one at `best_images`.

    A state past `images` is left from a run that was cut off and begun again; it goes too, as does a part of a state.
    """
    states = sorted(folder.glob("images-*/"))
    upto = [state for state in states if int(state.name.split("-")[1]) <= images and _is_whole(state)]
    kept = {*upto[-newest:], *(state for state in upto if int(state.name.split("-")[1]) == best_images)}
    for state in states:
        if state not in kept:
            rmtree(state)


def _is_whole(state: Path) -> bool:
    """Through a bucket a state arrives file by file, this one last."""
    return (state / "state.json").exists()


def state_folder(folder: Path, images: int) -> Path:
    """Where the state after so many images lies."""
    return folder / f"images-{images:012d}"
