"""The head that learns from features, and the whole model that is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from bincount.learn.photos import soft_targets

WEIGHT_DECAY = 0.01
"""L2 of every kernel. With few bins and thousands of features it, not the epochs, keeps the head from learning them
by heart (docs/log.md)."""

FEATURES = "features"
"""The layer of an assembled model whose output its head sees."""


@dataclass(frozen=True)
class Hyperparameters:
    """What the search chooses for a head.

    Attributes:
        learning_rate: Adam's, at the start of a cosine schedule that ends at zero.
        batch_size: Examples a step.
        epochs: Passes over the training examples; the schedule's length.
        units: Width of the hidden layer, 0 for none.
        dropout: Share of its outputs dropped in training.
        loss_mix: Share of the soft neighbour labels in the loss, 0 to 1; 0 is plain cross entropy.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    units: int = 128
    dropout: float = 0.5
    loss_mix: float = 0.0


def build_head(features: np.ndarray, classes: int, hyperparameters: Hyperparameters, *, steps: int) -> keras.Model:
    """Builds and compiles the head: the one builder for the search and the final training.

    Args:
        features: (N, D) training features; they are standardised with these ones' mean and variance.
        classes: How many counts to tell apart.
        hyperparameters: Its width, and how it learns.
        steps: Steps of the whole training, the schedule's length.

    Returns:
        Features (B, D) to logits (B, classes), compiled with Adam and cross
        entropy; its metric "nll" is the cross entropy of the classes alone, without weight decay and neighbours.
    """
    mean, variance = features.mean(0, dtype=np.float64), features.var(0, dtype=np.float64)
    inputs = keras.Input((features.shape[1],), name="features")
    # A constant feature, such as a dead unit's, has nothing to say and must not be divided by nothing.
    hidden = layers.Normalization(mean=mean, variance=np.where(variance > 1e-8, variance, 1.0))(inputs)
    if hyperparameters.units:
        hidden = layers.Dense(
            hyperparameters.units, "relu", kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2)
        )(hidden)
        hidden = layers.Dropout(hyperparameters.dropout)(hidden)
    logits = layers.Dense(
        classes, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2)
    )(hidden)
    model = keras.Model(inputs, logits, name="head")
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(hyperparameters.learning_rate, steps)),
        _loss(classes, hyperparameters.loss_mix),
        metrics=[keras.metrics.SparseCategoricalCrossentropy(name="nll", from_logits=True)],
        steps_per_execution=min(steps, 32),
        jit_compile=False,  # a head this small runs before XLA has compiled it
    )
    return model


def _loss(classes: int, mix: float) -> Callable:
    """Cross entropy with each class mixed with its neighbours."""
    if not mix:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    targets = soft_targets(classes, mix)

    def mixed(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        wanted = ops.take(ops.convert_to_tensor(targets), ops.cast(ops.reshape(labels, (-1,)), "int32"), axis=0)
        return ops.categorical_crossentropy(wanted, logits, from_logits=True)

    return mixed


def build_plain_head(width: int, classes: int) -> keras.Model:
    """Builds the head of a backbone that is trained with it: features (B, width) to logits (B, classes)."""
    features = keras.Input((width,), name="features")
    return keras.Model(features, layers.Dense(classes)(layers.Dropout(0.3)(features)), name="head")


def join(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Joins backbone and head, sharing their weights: photos (B, px, px, 3) uint8 to logits (B, classes)."""
    photos = keras.Input(backbone.input.shape[1:], dtype="uint8", name="photos")
    return keras.Model(photos, head(backbone(photos)), name="whole")


def average(backbones: Sequence[keras.Model], heads: Sequence[keras.Model]) -> tuple[keras.Model, keras.Model]:
    """Makes one backbone and one head whose logits are the average of those of several plain ones.

    Returns:
        Photos (B, px, px, 3) uint8 to the features of all, (B, N * D), and a
        linear head on them.
    """
    if len(backbones) == 1:
        return backbones[0], heads[0]
    photos = keras.Input(backbones[0].input.shape[1:], dtype="uint8", name="photos")
    named = [keras.Model(one.input, one.output, name=f"member{n + 1}") for n, one in enumerate(backbones)]
    features = layers.Concatenate()([one(photos) for one in named])
    weights = [head.get_weights() for head in heads]
    inputs = keras.Input((features.shape[1],), name="features")
    dense = layers.Dense(weights[0][1].shape[0])
    head = keras.Model(inputs, dense(inputs), name="head")
    kernel, bias = np.concatenate([kernel for kernel, _ in weights]), np.mean([bias for _, bias in weights], axis=0)
    dense.set_weights([kernel / len(heads), bias])
    return keras.Model(photos, features, name="backbone"), head


def assemble(backbone: keras.Model, head: keras.Model, temperature: float) -> keras.Model:
    """Joins backbone, head and calibration into the model that is served.

    Both views of a photo go through the backbone and their features are
    averaged, as the head was judged. Stock layers only, so that Keras' safe
    mode loads the saved file.

    Args:
        backbone: Photos (B, px, px, 3) uint8 to features (B, D).
        head: Features (B, D) to logits (B, classes).
        temperature: What the logits are divided by, > 0.

    Returns:
        Photos (B, px, px, 3) uint8 to calibrated probabilities (B, classes) float32.
    """
    photos = keras.Input(backbone.input.shape[1:], dtype="uint8", name="photos")
    features = layers.Average(name=FEATURES)([backbone(photos), backbone(ops.flip(photos, axis=2))])
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(head(features) / temperature)
    return keras.Model(photos, probabilities, name="bincount")
