"""The head that learns from features, and the whole model that is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from bincount.learn.predictor import FEATURES

WEIGHT_DECAY = 0.01
"""L2 of every kernel. With few bins and thousands of features it, not the epochs, keeps the head from overfitting
(docs/log/learn.md)."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of a head, as the search chooses them.

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


def build_head(mean: np.ndarray, variance: np.ndarray, classes: int, *, units: int, dropout: float) -> keras.Model:
    """Builds the head: the one builder for the search and the final training.

    Args:
        mean: (D,) of the training features; what comes in is standardised with it.
        variance: (D,) of the training features, > 0.
        classes: How many counts to tell apart.
        units: Width of the hidden layer, 0 for none.
        dropout: Share of its outputs dropped in training.

    Returns:
        Features (B, D) to logits (B, classes); its first layer standardises.
    """
    inputs = keras.Input((len(mean),), name="features")
    hidden = layers.Normalization(mean=mean, variance=variance)(inputs)
    if units:
        hidden = layers.Dense(units, "relu", kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2))(hidden)
        hidden = layers.Dropout(dropout)(hidden)
    logits = layers.Dense(
        classes, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2)
    )(hidden)
    return keras.Model(inputs, logits, name="head")


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
    averaged, as in the head's validation. Stock layers only, so that Keras' safe
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
