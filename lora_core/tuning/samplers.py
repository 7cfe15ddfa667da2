"""Optuna's samplers as a study of few rounds wants them, asked in a study in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from lora_core.tuning.space import Space

STARTUP_ROUNDS = 3
"""Rounds before a model is asked; Optuna's usual 10 would make a short study pure random search."""


class AdvisedSampler(GPSampler):
    """Optuna's Gaussian-process sampler, looking for the next point within the advice only.

    The process is fitted to every round, also to those outside the advice; narrowing the distributions themselves would
    make Optuna take the rounds for another space and forget them.
    """

    def __init__(self, narrowed: Space, seed: int) -> None:
        super().__init__(seed=seed % 2**32, n_startup_trials=0, warn_independent_sampling=False)
        self._narrowed = narrowed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The dimensions that are modelled."""
        space = super().infer_relative_search_space(study, trial)
        # Words are encoded by their place among the choices, so fewer of them would be others: drawn, not modelled.
        drawn = {
            key for key, axis in self._narrowed.items() if isinstance(axis, CategoricalDistribution) or axis.single()
        }
        return {key: self._narrowed.get(key, axis) for key, axis in space.items() if key not in drawn}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of a dimension that is not modelled."""
        return super().sample_independent(study, trial, param_name, self._narrowed.get(param_name, param_distribution))

    def _optimize_acqf(self, acqf: Any, best_params: np.ndarray | None) -> np.ndarray:
        # The best round may lie outside the advice, where Optuna's local search must not start.
        return super()._optimize_acqf(acqf, None if self._narrowed else best_params)


def parzen_sampler(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators over all dimensions together (Bergstra et al. 2011; Falkner et al. 2018)."""
    return TPESampler(seed=seed % 2**32, n_startup_trials=0, multivariate=True, warn_independent_sampling=False)


def random_sampler(seed: int) -> BaseSampler:
    """Independent draws (Bergstra & Bengio 2012)."""
    return RandomSampler(seed=seed % 2**32)


def ask(trials: Sequence[FrozenTrial], space: Space, sampler: BaseSampler) -> dict[str, Any]:
    """The parameters that a sampler wants next, given finished trials of the space."""
    scratch = optuna.create_study(sampler=sampler, direction="maximize")
    scratch.add_trials(trials)
    return scratch.ask(dict[str, BaseDistribution](space)).params
