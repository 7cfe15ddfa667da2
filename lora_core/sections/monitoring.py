"""What is watched while the LoRA trains."""

from typing import Literal

from lora_core.settings import Section, field


class MonitoringSection(Section):
    """What is watched while the LoRA trains; only `patience` has a say in the result."""

    validate_every: int = field(0, 1, "Epochs between measurements of the validation loss", ge=1)
    validation_photos: int = field(
        1, 8, "Test photographs that the validation loss is measured on; 0: none", ge=0, le=4096
    )
    patience: int | None = field(
        2, None, "Stop after so many validations without a better one; empty: train to the end", ge=1
    )
    samples: int = field(3, 4, "Test photographs restored at each checkpoint, for the eye; 0: none", ge=0, le=64)
    prompts: tuple[str, ...] = field(4, (), "Pictures from these texts at each checkpoint, for the eye")
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = field(
        5, ("tensorboard",), "Where the curves go, beside the log (accelerate's trackers)"
    )
