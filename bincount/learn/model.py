"""The head that learns from features, and the whole model that is served."""

from __future__ import annotations

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


def build_plain_head(width: int, outputs: int, *, name: str = "head") -> keras.Model:
    """Builds a head of a backbone that is trained with it: features (B, width) to outputs (B, outputs)."""
    features = keras.Input((width,), name="features")
    return keras.Model(features, layers.Dense(outputs)(layers.Dropout(0.3)(features)), name=name)


def restrict(head: keras.Model, scored: slice) -> keras.Model:
    """A plain head with some of the outputs of another one."""
    kernel, bias = head.get_weights()
    restricted = build_plain_head(len(kernel), len(bias[scored]))
    restricted.set_weights([kernel[:, scored], bias[scored]])
    return restricted


def join(backbone: keras.Model, *heads: keras.Model) -> keras.Model:
    """Joins a backbone and heads, sharing their weights: photos (B, px, px, 3) uint8 to the output of each head."""
    photos = keras.Input(backbone.input.shape[1:], dtype="uint8", name="photos")
    features = backbone(photos)
    return keras.Model(photos, [head(features) for head in heads], name="whole")


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
