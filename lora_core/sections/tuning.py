"""The loop over rounds and its search space."""

from typing import Self

from pydantic import model_validator

from lora_core.settings import Section, field


class Dimension(Section):
    """One axis of the search: a number between two bounds, or one of a few words."""

    key: str = field(0, ..., "Key of the experiment, for example training.learning_rate")
    low: float | None = field(1, None, "Lower bound of a number")
    high: float | None = field(2, None, "Upper bound of a number")
    log: bool = field(3, False, "Search on a logarithmic scale")
    choices: tuple[str, ...] = field(4, (), "The words to choose from, instead of bounds")

    @model_validator(mode="after")
    def _bounds_or_choices(self) -> Self:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError(f"{self.key}: give either low and high, or choices")
        if not self.choices and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"{self.key}: low must be below high")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"{self.key}: a logarithmic scale needs low above 0")
        return self


class TuningSection(Section):
    """The loop over rounds."""

    rounds: int = field(0, 8, "Rounds at most, each trained from the clean base", ge=1, le=1000)
    patience: int = field(1, 3, "Stop after so many rounds without a better composite", ge=1)
    min_improvement: float = field(2, 0.01, "Points of the composite that count as better", ge=0)
    time_limit: float | None = field(3, None, "Minutes after which no new round is started", gt=0)
    dimensions: tuple[Dimension, ...] = field(4, (), "What may change from round to round", max_length=12)
