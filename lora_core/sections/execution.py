"""Where the independent pieces of a round are worked on."""

from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field


class ExecutionSection(Section):
    """How degradation, sweep and scoring are shared out; it decides no result."""

    runner: Literal["threads", "processes", "ray"] = field(
        0, "threads", "Who works: threads or processes of this machine, or a Ray cluster (extra: ray)"
    )
    workers: int = field(1, 1, "Parts that are worked on at once; with GPUs, one a GPU", ge=1, le=1024)
    address: str | None = field(
        2, None, "Ray's head, as ray://host:10001 or host:6379; empty: a Ray of its own on this machine"
    )

    @model_validator(mode="after")
    def _address_is_rays(self) -> Self:
        if self.address and self.runner != "ray":
            raise ValueError(f"address: only Ray has one, and runner is {self.runner}; set execution.runner=ray")
        return self

    @property
    def shared(self) -> bool:
        """Whether anything is shared out at all; one Ray worker is another machine."""
        return self.workers > 1 or self.runner == "ray"
