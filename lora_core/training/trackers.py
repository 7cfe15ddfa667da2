"""Where the curves go beside the log: TensorBoard, W&B, MLflow, through accelerate's trackers.

W&B and MLflow are optional packages and find their servers by their own environment variables. A run that goes on after
a kill goes on in the same W&B and MLflow run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import tracking

from lora_core.errors import ResourceError
from lora_core.files import write_text
from lora_core.training.preflight import require_trackers


class Trackers:
    """The trackers of one run, as one."""

    def __init__(
        self, names: Sequence[str], tensorboard: Path, notes: Path, settings: dict[str, Any], first_step: int = 0
    ):
        """Opens them.

        Args:
            tensorboard: the run's folder of TensorBoard files; its last two names say experiment and round.
            notes: folder where the ids of W&B's and MLflow's runs are kept.
            settings: shown beside the curves by W&B and MLflow.
            first_step: what TensorBoard shows from here on is replaced.

        Raises:
            ConfigError: a package is not installed.
            ResourceError: a tracker does not start, for example without a server or a login.
        """
        require_trackers(names)
        experiment, round_name = tensorboard.parent.name, tensorboard.name
        self.trackers: list[Any] = []
        for name in names:
            known = notes / f"{name}-run.txt"
            identity = known.read_text(encoding="utf-8").strip() if known.exists() else None
            if name == "tensorboard":
                made = tracking.TensorBoardTracker(round_name, str(tensorboard.parent), purge_step=first_step)
            elif name == "wandb":
                made = tracking.WandBTracker(
                    experiment, name=round_name, id=identity, resume="allow", dir=str(notes), config=settings
                )
            else:
                made = tracking.MLflowTracker(experiment, run_id=identity, run_name=round_name)
            self.trackers.append(_started(name, made))
            if name == "wandb":
                write_text(known, made.tracker.id + "\n")
            if name == "mlflow":
                write_text(known, made.tracker.info.run_id + "\n")
                if identity is None:
                    made.store_init_configuration(settings)

    def log(self, values: dict[str, float], step: int) -> None:
        """Adds a point to each curve."""
        for tracker in self.trackers:
            tracker.log(values, step=step)

    def pictures(self, named: dict[str, list[np.ndarray]], step: int) -> None:
        """Shows pictures, (height, width, 3) uint8; MLflow's tracker shows none."""
        for tracker in self.trackers:
            for name, pictures in named.items():
                for number, picture in enumerate(pictures):
                    if tracker.name == "tensorboard":
                        tracker.tracker.add_image(f"{name}/{number}", picture, step, dataformats="HWC")
                    elif tracker.name == "wandb":
                        tracker.log_images({f"{name}/{number}": [picture]}, step=step)

    def close(self) -> None:
        """Writes what is pending."""
        for tracker in self.trackers:
            tracker.finish()


def _started(name: str, tracker: Any) -> Any:
    try:
        tracker.start()
    except Exception as error:  # each service has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise ResourceError(
            f"monitoring.trackers: {name} does not start ({reason}); set it up, or leave it out"
        ) from error
    return tracker
