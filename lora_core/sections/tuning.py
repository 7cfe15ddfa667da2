"""The loop over rounds and its search space."""

from collections import Counter
from typing import Literal, Self

from pydantic import model_validator

from lora_core.settings import Section, field

StrategyName = Literal["gp", "tpe", "random", "rules", "manual"]


class Dimension(Section):
    """One axis of the search: a number between two bounds, or one of a few words."""

    key: str = field(0, ..., "Key of the experiment, for example training.learning_rate")
    low: float | None = field(1, None, "Lower bound of a number")
    high: float | None = field(2, None, "Upper bound of a number")
    log: bool = field(3, False, "Search on a logarithmic scale")
    choices: tuple[str, ...] = field(4, (), "The words to choose from, instead of bounds")
    when: str | None = field(
        5, None, "key=choice of another dimension; only with that choice this one counts, else the key stays as written"
    )

    @model_validator(mode="after")
    def _bounds_or_choices(self) -> Self:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError(f"{self.key}: give either low and high, or choices")
        if not self.choices and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"{self.key}: low must be below high")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"{self.key}: a logarithmic scale needs low above 0")
        if twice := [word for word, count in Counter(self.choices).items() if count > 1]:
            raise ValueError(f"{self.key}: the choice {twice[0]} is given twice")
        if self.when is not None and self.condition is None:
            raise ValueError(f"{self.key}: when: '{self.when}' is not key=choice, for example objective.kind=bridge")
        return self

    @property
    def condition(self) -> tuple[str, str] | None:
        """`when`, read: the other dimension's key, and its choice."""
        key, equals, choice = (self.when or "").partition("=")
        return (key.strip(), choice.strip()) if equals and key.strip() and choice.strip() else None


class TuningSection(Section):
    """The loop over rounds."""

    rounds: int = field(0, 8, "Rounds at most, each trained from the clean base", ge=1, le=1000)
    patience: int = field(1, 3, "Stop after so many rounds without a better composite", ge=1)
    min_improvement: float = field(2, 0.01, "Points of the composite that count as better", ge=0)
    time_limit: float | None = field(3, None, "Minutes of its rounds after which no new one is started", gt=0)
    dimensions: tuple[Dimension, ...] = field(4, (), "What may change from round to round", max_length=12)
    strategy: StrategyName = field(
        5,
        "gp",
        "What picks a round's values: a Gaussian process, tree-structured Parzen estimators, chance, the diagnosis "
        "alone (rules, and wherever dimensions is empty), or the list below (manual)",
    )
    manual: tuple[tuple[str, ...], ...] = field(
        6, (), "For strategy=manual: the rounds, each a list of key=value; an empty list is the experiment as written"
    )
    prune: bool = field(7, True, "End a round at its first checkpoints when its validation loss is hopeless")
    warm_start: tuple[str, ...] = field(
        8, (), "Earlier experiments of the workspace, or their study.log files, whose rounds the search learns from"
    )

    parallel: int = field(
        9,
        1,
        "Rounds at once, each on a GPU of its own: runs of the deployment round/round on a Prefect server",
        ge=1,
        le=64,
    )

    @model_validator(mode="after")
    def _strategy_has_what_it_needs(self) -> Self:
        if self.strategy in ("rules", "manual") and self.dimensions:
            raise ValueError(f"strategy: {self.strategy} searches nothing; set tuning.dimensions=[] with it")
        if self.strategy == "manual" and not self.manual:
            raise ValueError("manual: strategy=manual needs at least one round, for example [[adapter.rank=16]]")
        if self.manual and self.strategy != "manual":
            raise ValueError(f"manual: {self.strategy} does not read it; set tuning.strategy=manual, or leave it out")
        if len(self.manual) > self.rounds:
            raise ValueError(
                f"manual: it lists {len(self.manual)} rounds, tuning.rounds allows {self.rounds}; raise that"
            )
        if self.warm_start and not self.dimensions:
            raise ValueError("warm_start: only a search learns from earlier rounds; name tuning.dimensions")
        if twice := [name for name, count in Counter(self.warm_start).items() if count > 1]:
            raise ValueError(f"warm_start: {twice[0]} is given twice")
        return self

    @model_validator(mode="after")
    def _conditions_name_choices(self) -> Self:
        known = {dimension.key: dimension for dimension in self.dimensions}
        for dimension in self.dimensions:
            if dimension.condition is None:
                continue
            key, choice = dimension.condition
            other = known.get(key)
            if other is None or other is dimension:
                raise ValueError(
                    f"dimensions: {dimension.key}: when: {key} is no other dimension; add one, or drop when"
                )
            if choice not in other.choices:
                has = ", ".join(other.choices) or "bounds"
                raise ValueError(f"dimensions: {dimension.key}: when: {key} is never {choice}; it has {has}")
            if other.when:
                raise ValueError(f"dimensions: {dimension.key}: when: {key} has a condition itself; name one without")
        return self
