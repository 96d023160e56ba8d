"""Training a head on cached features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from bincount.learn.feature_extraction import Examples, release
from bincount.learn.model import Hyperparameters, build_head
from bincount.learn.network_training import OnEpoch
from bincount.learn.photo_batches import soft_targets
from bincount.learn.temperature import nll_of

PATIENCE = 10
"""Epochs without a better validation NLL after which a training ends."""

PART_ROWS = 65_536
"""Most examples in memory at a time; more are read from their file in every epoch. A multiple of every batch size."""
_RUN_ROWS = 256
_ROWS = 4096  # standardised at a time, in float32


class FittedHead(NamedTuple):
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
) -> FittedHead:
    """Trains a head with Adam and cross entropy, stopping early on the validation part's NLL.

    Each view of a training photo is an example of its own; validation bins
    are scored as they are served, on the average of their views. The same
    arguments give the same weights on a processor.

    Args:
        train: What to learn from.
        validation: What decides which epoch was best; None: the last one.
        classes: How many counts to tell apart.
        hyperparameters: How to learn.
        seed: What first weights, order and dropout are drawn from.
        on_epoch: Called after each epoch with "loss", "nll" and, with a validation part, "val_nll".
    """
    n, views, width = train.features.shape
    features, labels = train.features.reshape(n * views, width), np.repeat(train.classes, views)
    mean, variance = _moments(features)
    # A constant feature, such as a dead unit's, must not be divided by zero.
    variance = np.where(variance > 1e-8, variance, 1.0)
    units, dropout = hyperparameters.units, hyperparameters.dropout
    training = HeadTraining.of(width, classes, hyperparameters.loss_mix, units=units, dropout=dropout)
    keras.utils.set_random_seed(seed)
    head = build_head(mean, variance, classes, units=units, dropout=dropout)
    order = np.random.default_rng(seed)
    steps = math.ceil(len(labels) / hyperparameters.batch_size) * hyperparameters.epochs
    centre, scale = mean.astype(np.float32), np.sqrt(variance).astype(np.float32)

    def standardised(rows: np.ndarray) -> np.ndarray:
        taken = features[rows]
        for start in range(0, len(taken), _ROWS):
            taken[start : start + _ROWS] = (taken[start : start + _ROWS] - centre) / scale
        release(features)
        return taken

    def parts() -> Iterator[tuple[tf.Tensor, tf.Tensor, np.ndarray]]:
        if held is not None:
            yield *held, order.permutation(len(labels))
            return
        for rows in shuffled_parts(len(labels), order):
            yield tf.constant(standardised(rows)), tf.constant(labels[rows]), np.arange(len(rows))

    held = None
    if len(labels) <= PART_ROWS:  # once, not in every epoch
        held = tf.constant(standardised(np.arange(len(labels)))), tf.constant(labels)
    training.start(head, rate=hyperparameters.learning_rate, steps=steps)
    judged = (mean_of_views(validation.features) - centre) / scale if validation else None
    best, costs = training.weights(), []
    for epoch in range(hyperparameters.epochs):
        loss, nll = training.run_epoch(parts(), hyperparameters.batch_size)
        metrics = {"loss": loss, "nll": nll}
        if validation and judged is not None:
            costs.append(nll_of(training.logits_of(judged), validation.classes))
            metrics["val_nll"] = costs[-1]
            if not costs[:-1] or costs[-1] < min(costs[:-1]):
                best = training.weights()
        on_epoch(epoch, metrics)
        if costs and len(costs) - 1 - int(np.argmin(costs)) >= PATIENCE:
            break
    head.set_weights(best if validation else training.weights())
    if not validation:
        return FittedHead(head, hyperparameters.epochs, math.nan)
    epoch = int(np.argmin(costs))
    return FittedHead(head, epoch + 1, costs[epoch])


def shuffled_parts(examples: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """Every index once, at random, in parts of at most `PART_ROWS`: what is in memory at a time.

    A part is made of runs of neighbours from all over the examples, so that it is read from few places of a file.
    """
    starts = order.permutation(np.arange(0, examples, _RUN_ROWS))
    for first in range(0, len(starts), PART_ROWS // _RUN_ROWS):
        runs = [
            np.arange(start, min(start + _RUN_ROWS, examples)) for start in starts[first:][: PART_ROWS // _RUN_ROWS]
        ]
        yield order.permutation(np.concatenate(runs))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (D,) float64 of features (N, D), a part at a time (Chan, Golub and LeVeque 1979)."""
    n, mean, squares = 0, np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for start in range(0, len(features), PART_ROWS):
        part = features[start : start + PART_ROWS]
        m, own = len(part), part.mean(0, dtype=np.float64)
        squares += m * part.var(0, dtype=np.float64) + (own - mean) ** 2 * n * m / (n + m)
        mean += (own - mean) * m / (n + m)
        n += m
        release(features)
    return mean, squares / n


def mean_of_views(features: np.ndarray) -> np.ndarray:
    """Averages features (N, views, D) over their views, in float32."""
    return features.mean(axis=1, dtype=np.float32)


_JUDGED = 4096  # bins a call


class HeadTraining:
    """Trains heads of one shape, one after the other.

    Keras' `fit` traces its steps anew for every model: 1.4 s a trial of a
    search, as long as ten epochs (docs/log/learn.md). Here learning rate, length
    and first weights are variables, batch size and examples arguments.
    """

    @staticmethod
    @lru_cache(maxsize=8)
    def of(width: int, classes: int, loss_mix: float, *, units: int, dropout: float) -> HeadTraining:
        """The one training of that shape.

        Args:
            width: Features an example.
            classes: How many counts to tell apart.
            loss_mix: Share of the soft neighbour labels in the loss.
            units: Width of the hidden layer, 0 for none.
            dropout: Share of its outputs dropped in training.
        """
        return HeadTraining(width, classes, loss_mix, units, dropout)

    def __init__(self, width: int, classes: int, loss_mix: float, units: int, dropout: float) -> None:
        head = build_head(np.zeros(width), np.ones(width), classes, units=units, dropout=dropout)
        # Without the standardising layer, which depends on the examples.
        self._head = keras.Model(head.layers[1].output, head.output)
        self._loss = _loss(classes, loss_mix)
        self._rate, self._steps = keras.Variable(1.0), keras.Variable(1.0)
        self._adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(self._rate, self._steps))
        self._adam.build(self._head.trainable_variables)
        rows = tf.TensorSpec((None, width), tf.float16)
        indices, number = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64)
        signature = [rows, tf.TensorSpec((None,), tf.int32), indices, number]
        # AutoGraph's rewriting of the code takes longer than an epoch.
        graph = partial(tf.function, autograph=False)
        self._epoch = graph(self._trace_epoch, input_signature=signature)
        self._update = graph(self._trace_update, jit_compile=True)
        self._logits = graph(partial(self._head, training=False), input_signature=[tf.TensorSpec((None, width))])

    def start(self, head: keras.Model, *, rate: float, steps: int) -> None:
        """Begins a training.

        Args:
            head: Whose weights it starts from; they stay as they are.
            rate: Adam's learning rate, at the start of a cosine that ends at zero.
            steps: Steps until then.
        """
        for own, first in zip(self._head.variables, head.variables, strict=True):
            own.assign(first)
        for variable in self._adam.variables:
            variable.assign(ops.zeros_like(variable))
        self._rate.assign(rate)
        self._steps.assign(steps)

    def run_epoch(
        self, parts: Iterable[tuple[tf.Tensor, tf.Tensor, np.ndarray]], batch_size: int
    ) -> tuple[float, float]:
        """Learns from every example once; returns the mean loss and NLL of the epoch.

        The loss holds the weight decay at a part's end.

        Args:
            parts: Standardised features (N, D) float16, labels (N,) int32, and the order of their indices.
            batch_size: Examples a step.
        """
        examples, total = 0, np.zeros(2)
        for features, labels, order in parts:
            means = self._epoch(features, labels, tf.constant(order), tf.constant(batch_size, tf.int64))
            total += len(order) * np.array([float(mean) for mean in means])
            examples += len(order)
        loss, nll = total / examples
        return float(loss), float(nll)

    def logits_of(self, features: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of standardised features (N, D) float32."""
        parts = range(0, len(features), _JUDGED)
        return np.concatenate([self._logits(features[start : start + _JUDGED]).numpy() for start in parts])

    def weights(self) -> list[np.ndarray]:
        """The current weights, in the order of a head's `set_weights`."""
        return self._head.get_weights()

    def _trace_epoch(
        self, features: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batch_size: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        examples = tf.size(order, tf.int64)

        def step(start: tf.Tensor, losses: tf.Tensor, nlls: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            at = order[start : start + batch_size]
            wanted = tf.gather(labels, at)
            with tf.GradientTape() as tape:
                logits = self._head(tf.cast(tf.gather(features, at), tf.float32), training=True)
                loss = self._loss(wanted, logits)
                mean = ops.mean(loss)
            self._update(*tape.gradient(mean, self._head.trainable_variables))
            nll = ops.sparse_categorical_crossentropy(wanted, logits, from_logits=True)
            return start + batch_size, losses + ops.sum(loss), nlls + ops.sum(nll)

        first = tf.constant(0, tf.int64), tf.constant(0.0), tf.constant(0.0)
        _, losses, nlls = tf.while_loop(lambda start, *sums: start < examples, step, first)
        n = tf.cast(examples, tf.float32)
        return losses / n + sum(self._head.losses), nlls / n

    def _trace_update(self, *gradients: tf.Tensor) -> None:
        # Compiled, weight decay and all that Adam does to a variable is one pass; the decay's own sum is never taken.
        variables = self._head.trainable_variables
        with tf.GradientTape() as tape:
            decay = sum(self._head.losses)
        pulls = tape.gradient(decay, variables)
        both = [one if pull is None else one + pull for one, pull in zip(gradients, pulls, strict=True)]
        self._adam.apply(both, variables)


def _loss(classes: int, mix: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Cross entropy of each example, its class mixed with the neighbours."""
    if not mix:
        return lambda labels, logits: ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    targets = soft_targets(classes, mix)
    return lambda labels, logits: ops.categorical_crossentropy(
        ops.take(ops.convert_to_tensor(targets), labels, axis=0), logits, from_logits=True
    )
