"""Training a head on cached features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bincount.learn.features import Examples
from bincount.learn.model import Hyperparameters, build_head

PATIENCE = 10
"""Epochs without a better validation NLL after which a training ends."""

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
    keras.utils.set_random_seed(seed)
    n, views, width = train.features.shape
    features, labels = train.features.reshape(n * views, width), np.repeat(train.classes, views)
    steps_an_epoch = math.ceil(len(labels) / hyperparameters.batch_size)
    head = build_head(features, classes, hyperparameters, steps=steps_an_epoch * hyperparameters.epochs)
    tell = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(epoch, _shown(logs)))
    stop = keras.callbacks.EarlyStopping("val_nll", mode="min", patience=PATIENCE, restore_best_weights=True)
    history = head.fit(
        _shuffled(features, labels, hyperparameters.batch_size, seed),
        validation_data=(mean_of_views(validation.features), validation.classes) if validation else None,
        validation_batch_size=4096,
        epochs=hyperparameters.epochs,
        callbacks=[stop, tell] if validation else [tell],
        shuffle=False,  # the dataset does it
        verbose=0,
    ).history
    if not validation:
        return Fitted(head, hyperparameters.epochs, math.nan)
    best = int(np.argmin(history["val_nll"]))
    return Fitted(head, best + 1, float(history["val_nll"][best]))


def mean_of_views(features: np.ndarray) -> np.ndarray:
    """Averages features (N, views, D) over their views, in float32."""
    return features.mean(axis=1, dtype=np.float32)


def _shuffled(features: np.ndarray, labels: np.ndarray, batch: int, seed: int) -> tf.data.Dataset:
    """Batches in a new order each epoch; only indices are shuffled, and rows gathered a batch at a time."""
    features, labels = tf.constant(features), tf.constant(labels)
    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed=seed).batch(batch)
    rows = order.map(lambda at: (tf.cast(tf.gather(features, at), tf.float32), tf.gather(labels, at)))
    return rows.prefetch(2)


def _shown(logs: Mapping[str, float]) -> dict[str, float]:
    return {name: float(logs[name]) for name in ("loss", "nll", "val_nll") if name in logs}
