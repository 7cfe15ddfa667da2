"""The search space: `tuning.dimensions` as Optuna's distributions, narrowed by a diagnosis' advice.

Optuna keeps words for choices and plain numbers for the rest (`params`); the experiment wants its own types
(`changes`): `changes_of` goes from one to the other. A dimension with a condition counts only where that holds: a round
without it has neither a parameter nor a change of that key.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from annotated_types import MultipleOf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lora_core.errors import ConfigError
from lora_core.experiment import Dimension, Experiment, value_at, with_values
from lora_core.tuning.advice import Advice, words

Axis = FloatDistribution | IntDistribution | CategoricalDistribution
Space = dict[str, Axis]


def search_space(experiment: Experiment) -> Space:
    """The distributions, by key in the order of `tuning.dimensions`.

    A key whose current value is an integer is searched in integers, in steps where the key itself has them.

    Raises:
        ConfigError: naming the key: given twice, no number where bounds are given, or a bound that the key refuses.
    """
    space: Space = {}
    for dimension in experiment.tuning.dimensions:
        if dimension.key in space:
            raise ConfigError(f"tuning.dimensions: {dimension.key} is given twice; keep one")
        axis = _axis(experiment, dimension)
        for end in axis.choices if isinstance(axis, CategoricalDistribution) else (axis.low, axis.high):
            _converted(experiment, dimension.key, end)
        space[dimension.key] = axis
    return space


def default_params(experiment: Experiment, space: Space) -> dict[str, Any]:
    """The experiment's own values as Optuna keeps them.

    Raises:
        ConfigError: a value lies outside its own bounds or choices.
    """
    params: dict[str, Any] = {}
    for key, axis in space.items():
        current = value_at(experiment, key)
        if isinstance(axis, CategoricalDistribution):
            # Compared after conversion, so that the word 'true' is the value True.
            inside = [word for word in axis.choices if _converted(experiment, key, word) == current]
            extent = ", ".join(str(word) for word in axis.choices)
        else:
            inside = [current] if axis.low <= current <= axis.high else []
            extent = f"{words(axis.low)} to {words(axis.high)}"
        if not inside:
            raise ConfigError(
                f"tuning.dimensions: {key} is {words(current)} in the experiment, not within {extent}; "
                "widen the dimension or change the value"
            )
        params[key] = inside[0]
    return params


def changes_of(experiment: Experiment, params: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's values as the experiment's: choices get the type of their key, numbers are theirs already."""
    return {
        key: _converted(experiment, key, value) if isinstance(value, str) else value for key, value in params.items()
    }


def active_params(experiment: Experiment, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters whose conditions hold."""
    conditions = _conditions(experiment)
    return {
        key: value
        for key, value in params.items()
        if key not in conditions or params[conditions[key][0]] == conditions[key][1]
    }


def narrowed_space(space: Space, advice: Mapping[str, Advice]) -> Space:
    """The dimensions that the advice narrows, within their own bounds; advice wholly outside them narrows nothing."""
    narrowed: Space = {}
    for key, axis in space.items():
        if key in advice and (tighter := _narrow(axis, advice[key])) is not None:
            narrowed[key] = tighter
    return narrowed


def combinations(experiment: Experiment, space: Space) -> int | None:
    """How many different rounds the space holds; None where a dimension is continuous or there is no dimension."""
    counts = {key: _count(axis) for key, axis in space.items()}
    if not counts or not all(counts.values()):
        return None
    deciding = list(dict.fromkeys(key for key, _ in _conditions(experiment).values()))
    total = 0
    for words_ in product(*(getattr(space[key], "choices", ()) for key in deciding)):
        # Any value stands for the dimensions that decide nothing.
        params = dict.fromkeys(space, "") | dict(zip(deciding, words_, strict=True))
        total += math.prod(counts[key] for key in active_params(experiment, params) if key not in deciding)
    return total


def _conditions(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """The key and the choice that a dimension asks for, by its own key; those without a condition are left out."""
    dimensions = experiment.tuning.dimensions
    return {dimension.key: dimension.condition for dimension in dimensions if dimension.condition}


def _axis(experiment: Experiment, dimension: Dimension) -> Axis:
    key = dimension.key
    if "." not in key:
        raise ConfigError(f"tuning.dimensions: {key} says which experiment this is, not how it trains; leave it out")
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    assert dimension.low is not None and dimension.high is not None
    current = value_at(experiment, key)
    if isinstance(current, float):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    if isinstance(current, bool) or not isinstance(current, int):
        raise ConfigError(
            f"tuning.dimensions: {key} is {words(current)} in the experiment, not a number; "
            "give choices instead of bounds, or set a number"
        )
    step = _step(key)
    low, high = _whole(dimension.low, dimension.high, step)
    if low >= high:
        raise ConfigError(f"tuning.dimensions: {key} has at most one value between its bounds; widen them")
    if dimension.log and step > 1:
        raise ConfigError(f"tuning.dimensions: {key} goes in steps of {step}; leave out log")
    return IntDistribution(low, high, log=dimension.log, step=step)


def _step(key: str) -> int:
    section, name = key.split(".")
    fields = type(Experiment.model_fields[section].default).model_fields
    multiples = [item.multiple_of for item in fields[name].metadata if isinstance(item, MultipleOf)]
    return int(multiples[0]) if multiples else 1  # type: ignore[call-overload]


def _whole(low: float, high: float, step: int) -> tuple[int, int]:
    """The multiples of `step` within two bounds."""
    return math.ceil(low / step) * step, math.floor(high / step) * step


def _converted(experiment: Experiment, key: str, value: Any) -> Any:
    try:
        return value_at(with_values(experiment, {key: value}), key)
    except ConfigError as error:
        raise ConfigError(f"tuning.dimensions: {error}") from error


def _narrow(axis: Axis, advice: Advice) -> Axis | None:
    if isinstance(axis, CategoricalDistribution):
        kept = [choice for choice in axis.choices if choice in advice.choices]
        return CategoricalDistribution(kept) if kept else None
    if advice.low is None or advice.high is None:
        return None
    low, high = max(axis.low, advice.low), min(axis.high, advice.high)
    if isinstance(axis, FloatDistribution):
        return FloatDistribution(low, high, log=axis.log) if low <= high else None
    first, last = _whole(low, high, axis.step)
    return IntDistribution(first, last, log=axis.log, step=axis.step) if first <= last else None


def _count(axis: Axis) -> int:
    """How many values a dimension has; 0 for a continuous one."""
    if isinstance(axis, CategoricalDistribution):
        return len(axis.choices)
    return (axis.high - axis.low) // axis.step + 1 if isinstance(axis, IntDistribution) else 0
