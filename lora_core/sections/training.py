"""The training run: length, rates, optimiser, memory, state."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field

Optimizer = Literal["adamw", "adamw8bit", "paged-adamw8bit", "lion", "adafactor", "prodigy", "schedule-free-adamw"]
Scheduler = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "piecewise_constant"
]


class TrainingSection(Section):
    """The training run of one round."""

    epochs: int = field(0, 20, "Passes over the photographs, each as often as its folder's number says", ge=1)
    checkpoint_every: int = field(
        1, 5, "Epochs between checkpoints that the sweep scores; the last is always one", ge=1
    )
    learning_rate: float = field(2, 1e-3, "Peak learning rate of the UNet's LoRA (1 for prodigy)", gt=0, le=1)
    text_encoder_learning_rate: float = field(3, 1e-6, "Peak learning rate of the text encoder's LoRA", gt=0, le=1)
    batch: int = field(
        4, 8, "Views a step and process; halved, with twice the accumulation, where memory is short", ge=1, le=1024
    )
    accumulation: int = field(5, 1, "Batches a weight update", ge=1, le=1024)
    optimizer: Optimizer = field(6, "adamw", "AdamW, bitsandbytes' 8-bit ones, or pytorch-optimizer's")
    weight_decay: float = field(7, 0.01, "Decoupled weight decay", ge=0)
    scheduler: Scheduler = field(8, "cosine", "Learning-rate schedule (diffusers)")
    warmup: float = field(9, 0.05, "Share of the updates in which the rate rises", ge=0, lt=1)
    restarts: int = field(10, 1, "Cycles of cosine_with_restarts", ge=1)
    rate_steps: str = field(
        11, "0.5:1, 0.8:0.3, 1:0.1", "For piecewise_constant: share of the run : factor, until that share"
    )
    max_grad_norm: float = field(12, 1.0, "Gradient clipping norm", gt=0)
    lora_plus: float = field(13, 1.0, "LoRA+: rate of the B matrices over that of the A matrices", ge=1, le=100)
    ema: int | None = field(
        14, None, "Half-life, in views, of a moving average of the LoRA that is saved instead", ge=1
    )
    gradient_checkpointing: bool = field(15, False, "Less memory, about a third slower")
    compile: bool = field(16, False, "Compile the UNet (torch.compile): minutes to start, faster steps")
    fit_memory: bool = field(
        17, True, "Try the first batch before training, and use smaller ones with more accumulation if it does not fit"
    )
    state_every: int = field(18, 2000, "Views between saved states, from which a killed run goes on", ge=1)
    keep_states: int = field(19, 1, "Saved states to keep, newest first", ge=1, le=100)
    keep_best: bool = field(20, True, "Keep the state of the best validation loss too")
    processes: int = field(21, 1, "Processes, one a GPU (accelerate)", ge=1)
    sharding: Literal["none", "fsdp"] = field(
        22, "none", "With several processes: a whole base on each, or shards of it (FSDP2)"
    )
    time_limit: float | None = field(23, None, "Minutes after which the round stops at its last checkpoint", gt=0)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.scheduler == "piecewise_constant":
            self.rate_factors()
        if self.optimizer == "schedule-free-adamw" and self.scheduler != "constant":
            raise ValueError("optimizer: schedule-free-adamw has its own schedule; set training.scheduler=constant")
        if self.sharding == "fsdp" and self.processes == 1:
            raise ValueError("sharding: fsdp shares a base between processes; set training.processes above 1")
        return self

    def rate_factors(self) -> list[tuple[float, float]]:
        """`rate_steps`, read: (share of the run, factor until then), rising, the last share 1.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            steps = [
                (float(share), float(factor))
                for share, factor in (part.split(":") for part in self.rate_steps.split(","))
            ]
        except ValueError as error:
            raise ValueError(f"rate_steps: '{self.rate_steps}' is not share:factor, share:factor, …") from error
        shares = [share for share, _ in steps]
        if shares != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1:
            raise ValueError("rate_steps: the shares must rise from above 0 to 1")
        if not all(0 <= factor <= 1 for _, factor in steps):
            raise ValueError("rate_steps: a factor must be between 0 and 1")
        return steps
