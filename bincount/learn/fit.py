"""Training a head on cached features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np

from bincount.learn.calibrate import nll_of
from bincount.learn.features import Examples
from bincount.learn.head_training import HeadTraining
from bincount.learn.model import Hyperparameters, build_head

PATIENCE = 10
"""Epochs without a better validation NLL after which a training ends."""

_ROWS = 4096  # standardised at a time: the whole bucket's features in float32 are 4 GB

OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Told the epoch, from 0, and its metrics."""


class Fitted(NamedTuple):
    """A trained head with the weights of its best epoch.

    Attributes:
        head: Features (B, D) to logits (B, classes).
        epochs: Epochs up to and with the best one.
        val_nll: Its negative log-likelihood on the validation part, in nats; NaN without one.
    """

    head: keras.Model
    epochs: int
    val_nll: float


def fit_head(
    train: Examples,
    validation: Examples | None,
    classes: int,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, metrics: None,
) -> Fitted:
    """Trains a head with Adam and cross entropy, stopping early on the validation part's NLL.

    Each view of a training photo is an example of its own; validation bins
    are judged as they are served, on the average of their views. The same
    arguments give the same weights on a processor.

    Args:
        train: What to learn from.
        validation: What decides which epoch was best; None: the last one.
        classes: How many counts to tell apart.
        hyperparameters: How to learn.
        seed: What first weights, order and dropout are drawn from.
        on_epoch: Told of every epoch: "loss", "nll" and, with a validation part, "val_nll".
    """
    n, views, width = train.features.shape
    features, labels = train.features.reshape(n * views, width), np.repeat(train.classes, views)
    mean, variance = features.mean(0, dtype=np.float64), features.var(0, dtype=np.float64)
    # A constant feature, such as a dead unit's, has nothing to say and must not be divided by nothing.
    variance = np.where(variance > 1e-8, variance, 1.0)
    units, dropout = hyperparameters.units, hyperparameters.dropout
    training = HeadTraining.of(width, classes, hyperparameters.loss_mix, units=units, dropout=dropout)
    keras.utils.set_random_seed(seed)
    head = build_head(mean, variance, classes, units=units, dropout=dropout)
    order = np.random.default_rng(seed)
    steps = math.ceil(len(labels) / hyperparameters.batch_size) * hyperparameters.epochs
    centre, scale = mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
    standardised = np.empty(features.shape, np.float16)  # once, not in every step
    for start in range(0, len(features), _ROWS):
        standardised[start : start + _ROWS] = (features[start : start + _ROWS] - centre) / scale
    training.start(head, standardised, labels, rate=hyperparameters.learning_rate, steps=steps)
    judged = (mean_of_views(validation.features) - centre) / scale if validation else None
    best, costs = training.weights(), []
    for epoch in range(hyperparameters.epochs):
        loss, nll = training.run_epoch(order.permutation(len(labels)), hyperparameters.batch_size)
        told = {"loss": loss, "nll": nll}
        if validation and judged is not None:
            costs.append(nll_of(training.logits_of(judged), validation.classes))
            told["val_nll"] = costs[-1]
            if not costs[:-1] or costs[-1] < min(costs[:-1]):
                best = training.weights()
        on_epoch(epoch, told)
        if costs and len(costs) - 1 - int(np.argmin(costs)) >= PATIENCE:
            break
    head.set_weights(best if validation else training.weights())
    if not validation:
        return Fitted(head, hyperparameters.epochs, math.nan)
    epoch = int(np.argmin(costs))
    return Fitted(head, epoch + 1, costs[epoch])


def mean_of_views(features: np.ndarray) -> np.ndarray:
    """Averages features (N, views, D) over their views, in float32."""
    return features.mean(axis=1, dtype=np.float32)
