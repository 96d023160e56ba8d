"""The search for the hyperparameters of a head, or of a fine-tuning, with KerasTuner."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
import numpy as np
from keras_tuner.engine.base_tuner import BaseTuner

from bincount.errors import BincountError, DataError
from bincount.files import digest_of, read_json, write_json
from bincount.learn.feature_extraction import Examples
from bincount.learn.head_training import fit_head
from bincount.learn.model import WEIGHT_DECAY, Hyperparameters

OnTrialEpoch = Callable[[str, int, Mapping[str, float]], None]
"""Called with a trial's id, the epoch and its metrics."""

OnTrial = Callable[[str, Mapping[str, Any], str, float | None], None]
"""Called with an ended trial's id, hyperparameters, status ("COMPLETED" or "FAILED") and score (its best val_nll)."""

_LOG = logging.getLogger(__name__)


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
        trials: How many trials ended, the failed ones among them.
        best: The hyperparameters of the best completed one.
        val_nll: Its negative log-likelihood on the validation part, in nats.
    """

    trials: int
    best: Hyperparameters
    val_nll: float


def search_heads(
    folder: Path,
    train: Examples,
    validation: Examples,
    classes: int,
    *,
    data: str,
    trials: int,
    max_epochs: int,
    seed: int,
    kind: str = "random",
    also: Sequence[str] = (),
    loss_mix: float = 0.0,
    on_epoch: OnTrialEpoch = lambda trial, epoch, metrics: None,
    on_trial: OnTrial = lambda trial, hyperparameters, status, score: None,
) -> SearchResult:
    """Tries hyperparameters and keeps the ones with the best validation NLL.

    A killed search continues: ended trials are kept, the one in progress starts
    again. Another space, other data, trials or seed start anew. No weights are
    kept. A trial that fails is recorded, and the search continues.

    Args:
        folder: Where KerasTuner keeps its state.
        train: What each trial learns from.
        validation: What its score is computed on.
        classes: How many counts to tell apart.
        data: Digest of the two; not the arrays but their names are compared.
        trials: How many sets of hyperparameters to try.
        max_epochs: Most epochs of a trial.
        seed: What the choices and each training are drawn from.
        kind: How the next ones are chosen: "random", "bayesian" or "grid".
        also: What to search besides learning rate, batch size and epochs: of "dropout", "units" and "loss_mix".
        loss_mix: Share of the soft neighbour labels where it is not searched.
        on_epoch: Called after each epoch of each trial.
        on_trial: Called for each trial that ends, and for those that ended before a kill.

    Raises:
        DataError: If every trial failed.
        BincountError: What `on_epoch` raises; the trial in progress starts again when the search continues.
    """
    space = space_of(kind, max_epochs=max_epochs, also=also)
    fixed: dict[str, Any] = {} if "loss_mix" in also else {"loss_mix": loss_mix}
    project = digest_of([data, trials, seed, WEIGHT_DECAY, kind, fixed, space.get_config()])

    def run(trial_id: str, values: Mapping[str, Any]) -> float:
        own = Hyperparameters(**fixed, **values)
        return fit_head(train, validation, classes, own, seed=seed, on_epoch=partial(on_epoch, trial_id)).val_nll

    ended, values, score = _search(
        folder, project, lambda: oracle_of(kind, space, trials=trials, seed=seed), run, on_trial
    )
    return SearchResult(ended, Hyperparameters(**fixed, **values), score)


Fit = Callable[[Mapping[str, Any], Callable[[int, Mapping[str, float]], None]], float]
"""A training with some hyperparameters that reports each epoch; returns its best val_nll."""

_HOPELESS = 1.05
"""A trial ends early whose val_nll is so many times that of the best one after as many epochs."""
_FEWEST_EPOCHS = 2


def search_fine_tuning(
    folder: Path,
    fit: Fit,
    *,
    data: str,
    trials: int,
    max_epochs: int,
    minutes: float,
    seed: int,
    on_epoch: OnTrialEpoch = lambda trial, epoch, metrics: None,
    on_trial: OnTrial = lambda trial, hyperparameters, status, score: None,
) -> tuple[int, dict[str, Any], float]:
    """Tries learning rates, batch sizes and epochs of a fine-tuning and keeps those with the best validation NLL.

    A trial that falls behind the best one ends early; no trial begins after the
    minutes are spent. A killed search continues as that of heads does, and its
    minutes begin again.

    Args:
        folder: Where KerasTuner keeps its state.
        fit: The fine-tuning.
        data: Names what it learns from.
        trials: How many sets of hyperparameters to try at most.
        max_epochs: Most epochs of a trial.
        minutes: After so many no trial begins.
        seed: What the choices are drawn from.
        on_epoch: Called after each epoch of each trial.
        on_trial: Called for each trial that ends, and for those that ended before a kill.

    Returns:
        How many trials ended, the best hyperparameters and their val_nll.

    Raises:
        DataError: If every trial failed.
    """
    space = keras_tuner.HyperParameters()
    space.Float("learning_rate", *FINE_TUNING_RATES, sampling="log")
    space.Choice("batch_size", [16, 32, 64])
    space.Int("epochs", max(1, max_epochs // 2), max_epochs)
    project = digest_of([data, trials, seed, "fine_tuning", space.get_config()])
    until = time.monotonic() + 60 * minutes
    best = folder / project / "best_curve.json"  # goes with KerasTuner's state, where that is damaged

    def run(trial_id: str, values: Mapping[str, Any]) -> float:
        best_curve: list[float] = (read_json(best) or {}).get("val_nll", [])
        if best_curve and time.monotonic() > until:
            raise keras_tuner.errors.FatalError("the minutes are spent") from _MinutesSpent()
        curve: list[float] = []

        def watch(epoch: int, metrics: Mapping[str, float]) -> None:
            on_epoch(trial_id, epoch, metrics)
            curve.append(metrics["val_nll"])
            behind = len(best_curve) > epoch and curve[-1] > _HOPELESS * best_curve[epoch]
            if behind and len(curve) >= _FEWEST_EPOCHS:
                _LOG.info("trial %s ends after %d epochs: it is behind the best one", trial_id, len(curve))
                raise _Hopeless

        try:
            score = fit(values, watch)
        except _Hopeless:
            score = min(curve)
        if math.isfinite(score) and (not best_curve or score < min(best_curve)):
            write_json(best, {"val_nll": curve})
        return score

    return _search(folder, project, lambda: oracle_of("random", space, trials=trials, seed=seed), run, on_trial)


class _Hopeless(Exception):
    pass


class _MinutesSpent(Exception):
    pass


def _search(
    folder: Path,
    project: str,
    oracle: Callable[[], keras_tuner.Oracle],
    run: Callable[[str, Mapping[str, Any]], float],
    on_trial: OnTrial,
) -> tuple[int, dict[str, Any], float]:
    """Runs or continues a search; returns how many trials ended, the best values and their score."""
    # KerasTuner prints to stdout, which is for the step's result.
    with contextlib.redirect_stdout(sys.stderr):
        tuner = _open(folder, project, oracle, run, on_trial)
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            if not isinstance(error.__cause__, _MinutesSpent):
                raise (error.__cause__ or error) from None
    ended = [trial for trial in tuner.oracle.trials.values() if trial.trial_id in tuner.oracle.end_order]
    # Not get_best_trials: it fills up with failed ones.
    completed = [trial for trial in ended if trial.status == "COMPLETED"]
    if not completed:
        reason = (ended[-1].message or "no reason given").strip().splitlines()[-1] if ended else "no trial at all"
        raise DataError(
            f"search: one trial of {tuner.oracle.max_trials} at least must end well, got none; the last error: "
            f"{reason}. See the log above, and run tune again."
        )
    best = min(completed, key=lambda trial: trial.score)
    return len(ended), dict(best.hyperparameters.values), float(best.score)


class _Tuner(BaseTuner):
    """Calls a function for each trial; order, state and resuming are KerasTuner's."""

    def __init__(self, run: Callable[[str, Mapping[str, Any]], float], on_trial: OnTrial, **kwargs: Any) -> None:
        self.run, self.on_trial = run, on_trial
        super().__init__(**kwargs)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        try:
            val_nll = self.run(trial.trial_id, trial.hyperparameters.values)
        except BincountError as error:  # the tracking server is down; the trial has not failed
            raise keras_tuner.errors.FatalError(str(error)) from error
        if not math.isfinite(val_nll):
            raise ArithmeticError(f"trial {trial.trial_id}: val_nll must be finite, got {val_nll}.")
        return {"val_nll": val_nll}

    def on_search_begin(self) -> None:
        for trial_id in self.oracle.end_order:
            self._report(self.oracle.trials[trial_id])

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        self._report(self.oracle.trials[trial.trial_id])

    def _report(self, trial: Any) -> None:
        if trial.status != "COMPLETED":
            _LOG.warning("trial %s failed, the search continues: %s", trial.trial_id, trial.message)
        self.on_trial(trial.trial_id, dict(trial.hyperparameters.values), trial.status, trial.score)


def _open(
    folder: Path,
    project: str,
    oracle: Callable[[], keras_tuner.Oracle],
    run: Callable[[str, Mapping[str, Any]], float],
    on_trial: OnTrial,
) -> _Tuner:
    def build() -> _Tuner:
        tuner = _Tuner(run, on_trial, oracle=oracle(), directory=str(folder), project_name=project)
        begun = {*tuner.oracle.end_order, *tuner.oracle._retry_queue}
        for trial_id in set(tuner.oracle.trials) - begun:  # killed before KerasTuner noted that it had begun
            del tuner.oracle.trials[trial_id]
        return tuner

    try:
        return build()
    except (ValueError, KeyError, OSError) as error:  # a kill can cut KerasTuner's state file short
        _LOG.warning("the search's state cannot be read (%s): starting it again", error)
        shutil.rmtree(folder / project)
        return build()


def oracle_of(kind: str, space: keras_tuner.HyperParameters, *, trials: int, seed: int) -> keras_tuner.Oracle:
    """The KerasTuner oracle that chooses the hyperparameters of each trial.

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
        # Above it KerasTuner raises while it holds a lock that it never releases; the search continues anyway.
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
            warnings.simplefilter("ignore")  # scikit-learn warns at every fit of few points
            answer = super().populate_space(trial_id)
        if answer["values"] is not None and self._duplicate(answer["values"]):
            return self._random_populate_space()  # the same training again has the same result
        return answer


BATCH_SIZES = (32, 64, 128, 256)
LEARNING_RATES = (1e-4, 1e-2)
FINE_TUNING_RATES = (1e-4, 2e-3)
UNITS = (32, 64, 128, 256, 512)

# Steps of a range in a grid: fewer miss the optimum between two of them, more take too long.
_GRID_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_GRID_SHARES = {"dropout": (0.2, 0.5, 0.7), "loss_mix": (0.0, 0.3, 0.6)}
_LARGEST = {"dropout": 0.7, "loss_mix": 0.7}


def space_of(kind: str, *, max_epochs: int, also: Sequence[str] = ()) -> keras_tuner.HyperParameters:
    """The hyperparameters of a search: learning rate, batch size, epochs and those in `also`.

    Args:
        kind: For "grid" every range becomes three to five steps.
        max_epochs: Most epochs of a trial; a fifth of them is the fewest.
        also: Of "dropout", "units" and "loss_mix".
    """
    space = keras_tuner.HyperParameters()
    fewest = max(1, max_epochs // 5)
    if kind == "grid":
        space.Choice("learning_rate", list(_GRID_RATES))
        space.Choice("batch_size", list(BATCH_SIZES))
        space.Choice("epochs", sorted({fewest, (fewest + max_epochs) // 2, max_epochs}))
    else:
        space.Float("learning_rate", *LEARNING_RATES, sampling="log")
        space.Choice("batch_size", list(BATCH_SIZES))
        space.Int("epochs", fewest, max_epochs)
    for name in also:
        if name == "units":
            space.Choice(name, list(UNITS))
        elif kind == "grid":
            space.Choice(name, list(_GRID_SHARES[name]))
        else:
            space.Float(name, 0.0, _LARGEST[name])
    return space
