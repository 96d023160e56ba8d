"""Fine-tuning: a pretrained network trained further on photos, with new heads for counts and sums."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from bincount.dataset.contents import SUMS
from bincount.dataset.manifest import Manifest
from bincount.learn import efficientnet_lite
from bincount.learn.backbone import layers_of_stages, with_last_activations
from bincount.learn.devices import mixed_precision, on_gpu, reuse_large_blocks, spread
from bincount.learn.model import build_plain_head, join, restrict
from bincount.learn.network_training import FINE_TUNING, FINE_TUNING_LITE, OnEpoch, Recipe, fit_network
from bincount.learn.photo_batches import Photos, moments
from bincount.mismatch.sums import SumsHead


class TrainedModel(NamedTuple):
    """The parts of a served model.

    Attributes:
        backbone: Photos (B, px, px, 3) uint8 to features (B, D).
        head: Features (B, D) to logits (B, classes).
        temperature: What the logits are to be divided by, from the calibration part.
        epochs: Epochs up to and with the best one.
        val_nll: Negative log-likelihood on bins that it had not learned from, in nats.
        sums: What the features tell of the sums of the record's products, if that was learned.
    """

    backbone: keras.Model
    head: keras.Model
    temperature: float
    epochs: int
    val_nll: float
    sums: SumsHead | None = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, classes) for features (N, D), both views averaged."""
        logits = self.head.predict_on_batch(features) / self.temperature
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        return likely / likely.sum(axis=1, keepdims=True)


def recipe_of(backbone: str, *, epochs: int, loss_mix: float | None) -> Recipe:
    """The recipe for a backbone by its name; `loss_mix` None is the recipe's own."""
    recipe = FINE_TUNING_LITE if backbone == efficientnet_lite.NAME else FINE_TUNING
    return replace(recipe, epochs=epochs, loss_mix=recipe.loss_mix if loss_mix is None else loss_mix)


def scored_of(manifest: Manifest) -> slice:
    """The model's classes among those that a whole network tells apart."""
    low = manifest.learned_counts.values.index(manifest.counts.low)
    return slice(low, low + len(manifest.counts))


def fine_tune(
    backbone: keras.Model,
    learned: Photos,
    held_out: Photos,
    classes: int,
    recipe: Recipe,
    *,
    scored: slice,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch,
    on_state: Callable[[], None] = lambda: None,
) -> TrainedModel:
    """Trains a pretrained network on photos, with new heads for the counts and for the sums of the records' products.

    Args:
        backbone: The pretrained network, whose last activations join the features; it may be changed in place.
        learned: What to learn from; with bins of other counts too, these are classes of their own.
        held_out: What decides which epoch was best, and the temperature.
        classes: How many counts to tell apart in training.
        recipe: How to learn.
        scored: Which of the classes are scored: those of the model.
        folder: Where the state is kept from epoch to epoch: see `fit_network`.
        seed: What everything random is drawn from.
        on_epoch: Called after each epoch with its metrics.
        on_state: Called after the state of an epoch was written.
    """
    if not on_gpu():
        reuse_large_blocks()
    backbone = with_last_activations(backbone)
    keras.utils.set_random_seed(seed)
    width = backbone.output.shape[1]
    head, sums_head = build_plain_head(width, classes), build_plain_head(width, len(SUMS), name="sums")
    backbone.trainable = True
    frozen = layers_of_stages(backbone, recipe.frozen_stages)
    for layer in backbone.get_layer("network").layers:
        learns = recipe.batch_norm or not isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = learns and layer not in frozen
    backbone.get_layer("normalisation").trainable = False
    network = join(backbone, head, sums_head)
    with spread() as several:
        trainee = network
        if several:  # variables must be created in the scope that keeps them synchronous
            trainee = keras.models.clone_model(network)
            trainee.set_weights(network.get_weights())
        with mixed_precision(trainee.get_layer("backbone")) if on_gpu() else contextlib.nullcontext():
            fitted = fit_network(
                trainee,
                learned,
                held_out,
                recipe,
                scored=scored,
                folder=folder,
                seed=seed,
                on_epoch=on_epoch,
                on_state=on_state,
            )
        network.set_weights(trainee.get_weights())
    kernel, bias = sums_head.get_weights()
    mean, deviation = moments(learned.sums)
    sums = SumsHead(kernel * deviation, bias * deviation + mean) if np.isfinite(learned.sums).any() else None
    return TrainedModel(backbone, restrict(head, scored), fitted.temperature, fitted.epochs, fitted.val_nll, sums)
