"""KerasTuner's ways to choose the next trial, each the same after a kill as without one.

KerasTuner 1.4.8 writes neither its grid's place nor the random state of its
Bayesian search to disk: resumed, the one ends early and the other takes
another way. Here both follow from the seed and the trial's number alone.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import keras_tuner
import numpy as np


def oracle_of(kind: str, space: keras_tuner.HyperParameters, *, trials: int, seed: int) -> keras_tuner.Oracle:
    """Makes what chooses the hyperparameters of each trial.

    Args:
        kind: "random", "bayesian" (a Gaussian process; its first half of the
            trials is random) or "grid" (every combination, in an order drawn
            from the seed, so that a few trials are spread over all of it).
        space: What to choose from.
        trials: How many to choose at most.
        seed: What choices are drawn from, >= 0.
    """
    shared = {
        "objective": keras_tuner.Objective("val_nll", "min"),
        "max_trials": trials,
        "hyperparameters": space.copy(),
        "seed": seed + 1,  # KerasTuner takes 0 for "none given" and draws one
        # Above it KerasTuner raises within a lock that it never gives back; the search is to go on anyway.
        "max_consecutive_failed_trials": trials + 1,
    }
    if kind == "random":
        return keras_tuner.oracles.RandomSearchOracle(**shared)
    if kind == "grid":
        return _Grid(**shared)
    # Its own default, three for each hyperparameter, would leave five trials to chance alone.
    return _Bayesian(num_initial_points=min(3 * len(space.space), max(2, trials // 2)), **shared)


class _Grid(keras_tuner.oracles.GridSearchOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        space = self.get_space().space
        combinations = list(itertools.product(*(parameter.values for parameter in space)))
        number = int(trial_id)
        if number >= len(combinations):
            return {"status": "STOPPED", "values": None}
        chosen = combinations[np.random.default_rng(self.seed).permutation(len(combinations))[number]]
        values = {parameter.name: value for parameter, value in zip(space, chosen, strict=True)}
        return {"status": "RUNNING", "values": values}


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        self._random_state = np.random.RandomState(self.seed + int(trial_id))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the process says at every fit that few points determine little
            answer = super().populate_space(trial_id)
        if answer["values"] is not None and self._duplicate(answer["values"]):
            return self._random_populate_space()  # the same training again would say the same
        return answer
