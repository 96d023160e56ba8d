"""Ways to a trained model: a head on a frozen backbone, a whole network, or one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from bincount.learn.calibrate import nll_of, temperature_of
from bincount.learn.devices import mixed_precision, on_gpu, spread
from bincount.learn.endtoend import FittedNetwork, OnEpoch, Recipe, fit_network, logits_of
from bincount.learn.features import Examples
from bincount.learn.fit import fit_head, mean_of_views
from bincount.learn.model import Hyperparameters, average, build_plain_head, join
from bincount.learn.photos import Photos


class Trained(NamedTuple):
    """All that a served model is made of.

    Attributes:
        backbone: Photos (B, px, px, 3) uint8 to features (B, D).
        head: Features (B, D) to logits (B, classes).
        temperature: What the logits are to be divided by, from the calibration part.
        epochs: Epochs up to and with the best one.
        val_nll: Negative log-likelihood on bins that it had not learned from, in nats.
    """

    backbone: keras.Model
    head: keras.Model
    temperature: float
    epochs: int
    val_nll: float


def train_frozen(
    backbone: keras.Model,
    examples: Mapping[str, Examples],
    classes: int,
    hyperparameters: Hyperparameters,
    *,
    refit: bool,
    seed: int,
    on_epoch: OnEpoch,
) -> Trained:
    """Trains a head on the cached features of a backbone that stays as it is.

    The validation part says how many epochs are enough; the calibration part,
    from which nothing else is learned, sets the temperature.

    Args:
        backbone: Where the features come from.
        examples: Those of "train", "validation" and "calibration".
        classes: How many counts to tell apart.
        hyperparameters: How to learn.
        refit: Whether the head that is kept is one trained for as many epochs
            on the validation part too (docs/log.md says what it gains).
            `val_nll` is the first head's, of bins new to it.
        seed: What first weights, order and dropout are drawn from.
        on_epoch: Told of every epoch of the first training.
    """
    fitted = fit_head(examples["train"], examples["validation"], classes, hyperparameters, seed=seed, on_epoch=on_epoch)
    head = fitted.head
    if refit:
        both = Examples(
            *(np.concatenate(arrays) for arrays in zip(examples["train"], examples["validation"], strict=True))
        )
        head = fit_head(both, None, classes, replace(hyperparameters, epochs=fitted.epochs), seed=seed).head
    held_out = examples["calibration"]
    temperature = temperature_of(head.predict_on_batch(mean_of_views(held_out.features)), held_out.classes)
    return Trained(backbone, head, temperature, fitted.epochs, fitted.val_nll)


def train_whole(
    backbone: keras.Model,
    photos: Mapping[str, Photos],
    classes: int,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch,
) -> Trained:
    """Trains networks of a backbone's shape and their heads on photos, each from scratch, and averages their logits.

    Networks that differ in their first weights and in the order of photos err
    differently (Lakshminarayanan et al., 2017, arXiv 1612.01474).

    Args:
        backbone: What each of the `recipe.members` is a copy of, with weights of its own.
        photos: Those of "train", "validation" and "calibration".
        classes: How many counts to tell apart.
        recipe: How to learn.
        folder: Where the state is kept from epoch to epoch: see `fit_network`.
        seed: What everything random is drawn from.
        on_epoch: Told of every epoch, "loss" and "val_nll" of each member: "member2/loss" and so on.

    Returns:
        One backbone whose features are all members', and one head.
    """
    members, heads, fits = [], [], []
    for number in range(recipe.members):
        own = seed + 2**16 * number
        keras.utils.set_random_seed(own)
        member = keras.models.clone_model(backbone)
        head = build_plain_head(member.output.shape[1], classes)

        def told(epoch: int, metrics: Mapping[str, float], number: int = number) -> None:
            on_epoch(epoch, {f"member{number + 1}/{name}": value for name, value in metrics.items()})

        fits.append(_fit(member, head, photos, recipe, folder, own, told))
        members.append(member)
        heads.append(head)
    return _calibrated(*average(members, heads), photos, max(fit.epochs for fit in fits))


def fine_tune(
    trained: Trained, photos: Mapping[str, Photos], recipe: Recipe, *, folder: Path, seed: int, on_epoch: OnEpoch
) -> Trained:
    """Trains backbone and head of a trained model on together.

    Batch norm stays frozen: its statistics are those of far more photos than
    a batch has. `folder` keeps the state from epoch to epoch.
    """
    network = trained.backbone.get_layer("network")
    trained.backbone.trainable = True
    for layer in network.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    trained.backbone.get_layer("normalisation").trainable = False
    fitted = _fit(trained.backbone, trained.head, photos, recipe, folder, seed, on_epoch)
    return _calibrated(trained.backbone, trained.head, photos, fitted.epochs)


def _fit(
    backbone: keras.Model,
    head: keras.Model,
    photos: Mapping[str, Photos],
    recipe: Recipe,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch,
) -> FittedNetwork:
    """Trains both in place, on all GPUs where there are several."""
    network = join(backbone, head)
    with spread() as several:
        trainee = network
        if several:  # variables must be made where they are to be kept in step
            trainee = keras.models.clone_model(network)
            trainee.set_weights(network.get_weights())
        with mixed_precision(trainee.get_layer("backbone")) if on_gpu() else contextlib.nullcontext():
            fitted = fit_network(
                trainee, photos["train"], photos["validation"], recipe, folder=folder, seed=seed, on_epoch=on_epoch
            )
        network.set_weights(trainee.get_weights())
    return fitted


def _calibrated(backbone: keras.Model, head: keras.Model, photos: Mapping[str, Photos], epochs: int) -> Trained:
    network = join(backbone, head)
    val_nll = nll_of(logits_of(network, photos["validation"]), photos["validation"].classes)
    held_out = photos["calibration"]
    temperature = temperature_of(logits_of(network, held_out), held_out.classes)
    return Trained(backbone, head, temperature, epochs, val_nll)
