"""Training a whole network on photos, on counts and sums at once, resumable at the epoch."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from bincount.files import digest_of, rename_damaged
from bincount.learn.devices import on_gpu
from bincount.learn.photo_batches import Photos, TrainingBatches, soft_targets
from bincount.learn.temperature import nll_of, temperature_of
from bincount.progress import ProgressLog

OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Told the epoch, from 0, and its metrics."""

_BATCH = 64  # of predictions


@dataclass(frozen=True)
class Recipe:
    """The training of a whole network: AdamW, a warm-up of one epoch, then a cosine down to zero.

    Attributes:
        learning_rate: AdamW's, after the warm-up.
        batch_size: Photos a step.
        epochs: Passes over the training bins.
        weight_decay: AdamW's, of kernels only.
        loss_mix: Share of the soft neighbour labels, 0 to 1.
        batch_norm: Whether batch norm learns too. Otherwise it keeps its statistics of ImageNet, which are those of
            far more photos than a batch has.
        frozen_stages: Stages from the first that stay as they are, batch norm too: the largest activations, so the most
            expensive to learn.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    weight_decay: float = 0.05
    loss_mix: float = 0.3
    batch_norm: bool = False
    frozen_stages: int = 0


FINE_TUNING = Recipe(learning_rate=1e-4, batch_size=32, epochs=10, weight_decay=0.01)
"""For any network: small steps, and batch norm as it is."""

FINE_TUNING_LITE = Recipe(learning_rate=7e-4, batch_size=32, epochs=8, batch_norm=True, frozen_stages=2)
"""For EfficientNetLite0, whose batch norm has a momentum of 0.9 and so follows within some ten batches."""


class FittedNetwork(NamedTuple):
    """The result of a training.

    Attributes:
        epochs: Epochs up to and with the best one.
        val_nll: Its validation NLL in nats, at `temperature`.
        temperature: What the logits are to be divided by.
    """

    epochs: int
    val_nll: float
    temperature: float


def fit_network(
    network: keras.Model,
    train: Photos,
    validation: Photos,
    recipe: Recipe,
    *,
    scored: slice,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, metrics: None,
    on_state: Callable[[], None] = lambda: None,
) -> FittedNetwork:
    """Trains a network and leaves it with the weights of its best epoch.

    After each epoch all that the next one depends on is written, in one file:
    weights, optimizer, random state, early stopping. A killed training continues
    after its last complete epoch, on a processor with bit-identical results.
    Another recipe or seed starts anew.

    The best epoch is the one with the best validation NLL at its own
    temperature: a network that is only too sure of itself is calibrated later.

    Args:
        network: Photos (B, px, px, 3) uint8 to logits (B, classes) and standardised sums (B, len(SUMS)), changed in
            place.
        train: What to learn from; its classes are those of the logits.
        validation: What decides which epoch was best, on the average of both views; its classes are the scored ones.
        recipe: How to learn.
        scored: Which of the classes are scored.
        folder: Where the state is kept.
        seed: What order, mirroring, brightness and dropout are drawn from.
        on_epoch: Called after each epoch with "loss", "val_nll" and "temperature", and for each epoch that was done
            before a kill.
        on_state: Called after the state of an epoch that was trained now was written, before `on_epoch`.
    """
    keras.utils.set_random_seed(seed)
    targets = soft_targets(network.outputs[0].shape[1], recipe.loss_mix)
    steps = len(TrainingBatches(train, targets, recipe.batch_size, seed=seed, epoch=0))
    _compile(network, recipe, steps)
    state = _State(network, folder / f"{digest_of([asdict(recipe), seed])}.npz")
    state.load()
    for epoch, metrics in enumerate(state.history):
        on_epoch(epoch, metrics)
    for epoch in range(len(state.history), recipe.epochs):
        batches = TrainingBatches(train, targets, recipe.batch_size, seed=seed, epoch=epoch)
        with ProgressLog(f"epoch {epoch + 1} of {recipe.epochs}, batches", len(batches)) as progress:
            told = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, step=progress.step: step())
            fitted = network.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[told])
        logits = logits_of(network, validation)[:, scored]
        temperature = temperature_of(logits, validation.classes)
        val_nll = nll_of(logits / temperature, validation.classes)
        state.add({"loss": float(fitted.history["loss"][0]), "val_nll": val_nll, "temperature": temperature})
        on_state()
        on_epoch(epoch, state.history[-1])
    state.restore_best()
    best = state.best_epoch()
    metrics = state.history[best]
    return FittedNetwork(best + 1, metrics["val_nll"], metrics["temperature"])


def logits_of(network: keras.Model, photos: Photos) -> np.ndarray:
    """Logits (N, classes) float32 of photos, averaged over both views."""
    return _mean_of_views(lambda view: network.predict_on_batch(view)[0], photos, np.arange(len(photos)))


def features_of(backbone: keras.Model, photos: Photos, rows: np.ndarray) -> np.ndarray:
    """Features (len(rows), D) float32 of some photos, averaged over both views."""
    return _mean_of_views(backbone.predict_on_batch, photos, rows)


def _mean_of_views(predict: Callable[[np.ndarray], np.ndarray], photos: Photos, rows: np.ndarray) -> np.ndarray:
    answers = []
    starts = range(0, len(rows), _BATCH)
    with ProgressLog("batches of photos predicted", len(starts)) as progress:
        for start in starts:
            seen = photos.read(rows[start : start + _BATCH])
            short = _BATCH - len(seen)  # one batch shape, one graph
            seen = np.pad(seen, [(0, short), (0, 0), (0, 0), (0, 0)])
            views = [np.asarray(predict(view)) for view in (seen, seen[:, :, ::-1])]
            answers.append((views[0] + views[1])[: _BATCH - short] / 2)
            progress.step()
    return np.concatenate(answers)


def _compile(network: keras.Model, recipe: Recipe, steps: int) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps * (recipe.epochs - 1)),
        warmup_target=recipe.learning_rate,
        warmup_steps=steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(network.trainable_variables)
    losses = [keras.losses.CategoricalCrossentropy(from_logits=True), _huber_of_known]
    network.compile(optimizer, losses, jit_compile=on_gpu())


def _huber_of_known(wanted: keras.KerasTensor, predicted: keras.KerasTensor) -> keras.KerasTensor:
    """The Huber loss of each row, over what is known; NaN stands for what is not."""
    known = ops.logical_not(ops.isnan(wanted))
    error = ops.abs(ops.where(known, predicted - ops.where(known, wanted, 0.0), 0.0))
    return ops.mean(ops.where(error < 1, error**2 / 2, error - 0.5), axis=-1)


class _State:
    """Everything that the next epoch depends on, in memory and in one file that is replaced in one step."""

    def __init__(self, network: keras.Model, path: Path) -> None:
        self.history: list[dict[str, float]] = []
        self._path = path
        self._weights = network.weights
        # `variables` holds the state of dropout too.
        self._variables = [*network.variables, *network.optimizer.variables]
        self._best = self._read(self._weights)

    def load(self) -> None:
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                history = json.loads(str(saved["history"]))
                now = [saved[f"now{n}"] for n in range(len(self._variables))]
                best = [saved[f"best{n}"] for n in range(len(self._weights))]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            rename_damaged(self._path)
            return
        self.history, self._best = history, best
        self._write(self._variables, now)

    def add(self, metrics: dict[str, float]) -> None:
        """Adds an epoch and writes the state."""
        self.history.append(metrics)
        if self.best_epoch() == len(self.history) - 1:
            self._best = self._read(self._weights)
        arrays = {f"now{n}": value for n, value in enumerate(self._read(self._variables))}
        arrays |= {f"best{n}": value for n, value in enumerate(self._best)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".beside")
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, history=np.array(json.dumps(self.history)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def best_epoch(self) -> int:
        return min(range(len(self.history)), key=lambda epoch: _cost(self.history[epoch]["val_nll"]))

    def restore_best(self) -> None:
        self._write(self._weights, self._best)

    @staticmethod
    def _read(variables: list) -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(variable) for variable in variables]

    @staticmethod
    def _write(variables: list, values: list[np.ndarray]) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _cost(nll: float) -> float:
    return nll if math.isfinite(nll) else math.inf
