"""Training a whole network on photos, resumable at the epoch."""

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

from bincount.files import digest_of, set_aside
from bincount.learn.devices import on_gpu
from bincount.learn.photo_batches import Photos, TrainingBatches, soft_targets
from bincount.learn.temperature import nll_of

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
        patience: Epochs without a better validation NLL after which training ends.
        members: Networks that are trained one after the other and then averaged.
        batch_norm: Whether batch norm learns too. Otherwise it keeps its statistics of ImageNet, which are those of
            far more photos than a batch has.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    weight_decay: float = 0.05
    loss_mix: float = 0.3
    patience: int = 1000
    members: int = 1
    batch_norm: bool = False


FROM_SCRATCH = Recipe(learning_rate=2e-3, batch_size=64, epochs=24, members=3)
"""For compact: a recipe that was published with its figures, not searched here (docs/log/learn.md)."""

FINE_TUNING = Recipe(learning_rate=1e-4, batch_size=32, epochs=10, weight_decay=0.01, patience=4)
"""For a network that is good at something else already: small steps, and an early end."""

FINE_TUNING_LITE = Recipe(learning_rate=7e-4, batch_size=32, epochs=8, patience=4, batch_norm=True)
"""For EfficientNetLite0, whose batch norm has a momentum of 0.9 and so follows within some ten batches."""


class FittedNetwork(NamedTuple):
    """The result of a training: epochs up to and with the best one, and its validation NLL in nats."""

    epochs: int
    val_nll: float


def fit_network(
    network: keras.Model,
    train: Photos,
    validation: Photos,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, metrics: None,
) -> FittedNetwork:
    """Trains a network and leaves it with the weights of its best epoch.

    After each epoch all that the next one depends on is written, in one file:
    weights, optimizer, random state, early stopping. A killed training continues
    after its last complete epoch, on a processor with bit-identical results.
    Another recipe or seed starts anew.

    Args:
        network: Photos (B, px, px, 3) uint8 to logits (B, classes), changed in place.
        train: What to learn from.
        validation: What decides which epoch was best, on the average of both views.
        recipe: How to learn.
        folder: Where the state is kept.
        seed: What order, mirroring, brightness and dropout are drawn from.
        on_epoch: Called after each epoch with "loss" and "val_nll", and for each epoch that was done before a kill.
    """
    keras.utils.set_random_seed(seed)
    steps = len(TrainingBatches(train, np.eye(1), recipe.batch_size, seed=seed, epoch=0))
    _compile(network, recipe, steps)
    state = _State(network, folder / f"{digest_of([asdict(recipe), seed])}.npz")
    state.load()
    for epoch, metrics in enumerate(state.history):
        on_epoch(epoch, metrics)
    targets = soft_targets(network.output.shape[1], recipe.loss_mix)
    for epoch in range(len(state.history), recipe.epochs):
        if state.epochs_since_best() >= recipe.patience:
            break
        batches = TrainingBatches(train, targets, recipe.batch_size, seed=seed, epoch=epoch)
        fitted = network.fit(batches, epochs=1, verbose=0, shuffle=False)
        val_nll = nll_of(logits_of(network, validation), validation.classes)
        state.add({"loss": float(fitted.history["loss"][0]), "val_nll": val_nll})
        on_epoch(epoch, state.history[-1])
    state.restore_best()
    best = state.best_epoch()
    return FittedNetwork(best + 1, state.history[best]["val_nll"])


def logits_of(network: keras.Model, photos: Photos) -> np.ndarray:
    """Logits (N, classes) float32 of photos, averaged over both views."""
    answers = []
    for start in range(0, len(photos), _BATCH):
        seen = photos.read(np.arange(start, min(start + _BATCH, len(photos))))
        short = _BATCH - len(seen)  # one batch shape, one graph
        seen = np.pad(seen, [(0, short), (0, 0), (0, 0), (0, 0)])
        views = [np.asarray(network.predict_on_batch(view)) for view in (seen, seen[:, :, ::-1])]
        answers.append((views[0] + views[1])[: _BATCH - short] / 2)
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
    network.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=on_gpu())


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
            set_aside(self._path)
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

    def epochs_since_best(self) -> int:
        return len(self.history) - 1 - self.best_epoch() if self.history else 0

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
