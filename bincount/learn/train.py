"""The final training and its model."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from bincount.config import TrainConfig
from bincount.dataset.contents import SUMS
from bincount.dataset.split import AUXILIARY, DEVELOPMENT_PARTS, LEARNED_PARTS
from bincount.errors import ConfigError
from bincount.files import read_json
from bincount.learn import efficientnet_lite
from bincount.learn.backbone import load_backbone, with_last_activations
from bincount.learn.devices import mixed_precision, on_gpu, spread
from bincount.learn.engine import is_whole_network, save_network
from bincount.learn.feature_cache import CachedFeatures, read_features
from bincount.learn.features import Examples, join_examples
from bincount.learn.head_training import fit_head, mean_of_views
from bincount.learn.judges import Judges, learn_judges
from bincount.learn.model import Hyperparameters, assemble, build_plain_head, join, restrict
from bincount.learn.photo_batches import Photos, moments
from bincount.learn.predictor import FEATURES, MODEL
from bincount.learn.temperature import temperature_of
from bincount.learn.whole_network import FINE_TUNING, FINE_TUNING_LITE, OnEpoch, Recipe, fit_network
from bincount.mismatch.sums import SumsHead
from bincount.settings import Settings
from bincount.tracking import runs

_log = logging.getLogger(__name__)

_CHECKED = 32  # photos that the exported model is checked on


def train(
    settings: Settings,
    *,
    run_id: str,
    features: str,
    **training: Any,
) -> dict:
    """Trains with the hyperparameters that `tune` chose, calibrates and saves the model.

    A frozen backbone gets the head of the search; with `fine_tune_epochs` the
    whole network is trained instead, with a head of its own. The model is
    published in one step. A killed training of a head starts again, that of a
    whole network continues after its last epoch.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; its curve is the training's.
        features: The features, as `prepare` named them.
        **training: What `TrainConfig` takes. Its `loss_mix` is for fine-tuning; the head's is chosen by `tune`.

    Returns:
        `model`, the run that holds it, the best `epochs` and their `val_nll`.

    Raises:
        ConfigError: If there are no such features, or no search ended on them.
    """
    config = TrainConfig(**training)
    trained_from = {"features": features, **asdict(config)}
    folder = settings.run(run_id) / "model"
    facts = read_json(folder / "model.json")
    if facts and facts.get("config") == trained_from and is_whole_network(folder / MODEL):
        _log.info("train: the model is there already")
        return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}
    cached = read_features(settings, features)
    best = _best_of(settings.run(run_id) / "search" / "best.json", features)
    runs.log_params(settings, run_id, {"fine_tune_epochs": config.fine_tune_epochs, **best})

    def on_epoch(stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
        named = {f"{stage}/{name}": value for name, value in metrics.items()}
        runs.log_metrics(settings, run_id, named, step=epoch)
        _log.info("%s: epoch %d, %s", stage, epoch + 1, ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))

    whole = folder.with_name("whole") / features
    with runs.watch_machine(settings, run_id):
        trained = _learn(settings, cached, best, whole, _recipe_of(cached, config), config.seed, on_epoch)
    facts = {
        "counts": str(cached.manifest.counts),
        **cached.facts,
        "hyperparameters": best,
        "temperature": trained.temperature,
        "epochs": trained.epochs,
        "val_nll": trained.val_nll,
        "config": trained_from,
    }
    calibration = cached.photos(settings, "calibration", counts=cached.manifest.counts)
    fine_tuned = trained.backbone if config.fine_tune_epochs else None
    judges = learn_judges(settings, cached, trained.predict, fine_tuned=fine_tuned, sums=trained.sums)
    _publish(trained, facts, folder, calibration.read(np.arange(min(_CHECKED, len(calibration)))), judges)
    runs.log_metrics(settings, run_id, {name: facts[name] for name in ("val_nll", "temperature")})
    return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}


def _best_of(path: Path, features: str) -> dict[str, Any]:
    best = read_json(path)
    if best is None or best["features"] != features:
        raise ConfigError(f"train: needs a finished search on {features!r}, got none. Run `bincount tune` first.")
    return best["best"]


def _learn(
    settings: Settings,
    cached: CachedFeatures,
    best: dict[str, Any],
    folder: Path,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[str, int, Mapping[str, float]], None],
) -> TrainedModel:
    """The head on cached features, or the whole network on photos."""
    backbone, manifest = load_backbone(cached.backbone_path), cached.manifest
    if not recipe.epochs:
        examples = {part: cached.examples(part) for part in DEVELOPMENT_PARTS}
        on_head_epoch = partial(on_epoch, "train")
        return train_frozen(
            backbone, examples, len(manifest.counts), Hyperparameters(**best), seed=seed, on_epoch=on_head_epoch
        )
    # The number of epochs is fixed, so the validation part is learned from too and the calibration part validates.
    learned = cached.photos(settings, *LEARNED_PARTS, AUXILIARY, counts=manifest.learned_counts)
    held_out = cached.photos(settings, "calibration", counts=manifest.counts)
    low = manifest.learned_counts.values.index(manifest.counts.low)
    return fine_tune(
        backbone,
        learned,
        held_out,
        len(manifest.learned_counts),
        recipe,
        scored=slice(low, low + len(manifest.counts)),
        folder=folder,
        seed=seed,
        on_epoch=partial(on_epoch, "fine_tune"),
    )


def _recipe_of(cached: CachedFeatures, config: TrainConfig) -> Recipe:
    recipe = FINE_TUNING_LITE if cached.facts["backbone"] == efficientnet_lite.NAME else FINE_TUNING
    loss_mix = recipe.loss_mix if config.loss_mix is None else config.loss_mix
    return replace(recipe, epochs=config.fine_tune_epochs, loss_mix=loss_mix)


def _publish(trained: TrainedModel, facts: dict[str, Any], folder: Path, photos: np.ndarray, judges: Judges) -> None:
    """Saves the model, exported and checked on some photos, and its judges, in one step."""
    beside = folder.with_name("model.beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model = assemble(trained.backbone, trained.head, trained.temperature)
    save_network(model, beside / MODEL, photos, outputs=(FEATURES,), scale=1.0)
    for judge in judges:
        if judge:
            judge.write(beside)
    (beside / "model.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    shutil.rmtree(folder.with_name("whole"), ignore_errors=True)  # the state after each epoch


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


def train_frozen(
    backbone: keras.Model,
    examples: Mapping[str, Examples],
    classes: int,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    on_epoch: OnEpoch,
) -> TrainedModel:
    """Trains a head on the cached features of a backbone that stays as it is.

    The validation part determines the number of epochs; the head that is kept
    is one trained for as many on the validation part too (docs/log/learn.md has
    the gain). The calibration part, which is used for nothing else, determines
    the temperature. `val_nll` is the first head's, of bins new to it.

    Args:
        backbone: Where the features come from.
        examples: Those of "train", "validation" and "calibration".
        classes: How many counts to tell apart.
        hyperparameters: How to learn.
        seed: What first weights, order and dropout are drawn from.
        on_epoch: Called after each epoch of the first training.
    """
    fitted = fit_head(examples["train"], examples["validation"], classes, hyperparameters, seed=seed, on_epoch=on_epoch)
    both = join_examples(examples["train"], examples["validation"])
    head = fit_head(both, None, classes, replace(hyperparameters, epochs=fitted.epochs), seed=seed).head
    held_out = examples["calibration"]
    temperature = temperature_of(head.predict_on_batch(mean_of_views(held_out.features)), held_out.classes)
    return TrainedModel(backbone, head, temperature, fitted.epochs, fitted.val_nll)


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
) -> TrainedModel:
    """Trains a pretrained network on photos, with new heads for the counts and for the sums of the records' products.

    Args:
        backbone: The network, changed in place; its last activations join the features.
        learned: What to learn from; with bins of other counts too, these are classes of their own.
        held_out: What decides which epoch was best, and the temperature.
        classes: How many counts to tell apart in training.
        recipe: How to learn.
        scored: Which of the classes are scored: those of the model.
        folder: Where the state is kept from epoch to epoch: see `fit_network`.
        seed: What everything random is drawn from.
        on_epoch: Called after each epoch with its metrics.
    """
    backbone = with_last_activations(backbone)
    keras.utils.set_random_seed(seed)
    width = backbone.output.shape[1]
    head, sums_head = build_plain_head(width, classes), build_plain_head(width, len(SUMS), name="sums")
    backbone.trainable = True
    for layer in backbone.get_layer("network").layers:
        layer.trainable = recipe.batch_norm or not isinstance(layer, keras.layers.BatchNormalization)
    backbone.get_layer("normalisation").trainable = False
    network = join(backbone, head, sums_head)
    with spread() as several:
        trainee = network
        if several:  # variables must be created in the scope that keeps them synchronous
            trainee = keras.models.clone_model(network)
            trainee.set_weights(network.get_weights())
        with mixed_precision(trainee.get_layer("backbone")) if on_gpu() else contextlib.nullcontext():
            fitted = fit_network(
                trainee, learned, held_out, recipe, scored=scored, folder=folder, seed=seed, on_epoch=on_epoch
            )
        network.set_weights(trainee.get_weights())
    kernel, bias = sums_head.get_weights()
    mean, deviation = moments(learned.sums)
    sums = SumsHead(kernel * deviation, bias * deviation + mean) if np.isfinite(learned.sums).any() else None
    return TrainedModel(backbone, restrict(head, scored), fitted.temperature, fitted.epochs, fitted.val_nll, sums)
