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
from bincount.dataset.groups import block_of
from bincount.dataset.pairs import pairs_of
from bincount.dataset.split import DEVELOPMENT_PARTS
from bincount.errors import ConfigError
from bincount.files import read_json
from bincount.learn.devices import mixed_precision, on_gpu, spread
from bincount.learn.engine import is_whole_network
from bincount.learn.feature_cache import CachedFeatures, read_features
from bincount.learn.features import Examples, join_examples
from bincount.learn.head_training import fit_head, mean_of_views
from bincount.learn.model import Hyperparameters, average, build_plain_head, join
from bincount.learn.photo_batches import Photos
from bincount.learn.predictor import MODEL
from bincount.learn.temperature import nll_of, temperature_of
from bincount.learn.whole_network import FittedNetwork, OnEpoch, Recipe, fit_network, logits_of
from bincount.mismatch.change import ChangeHead
from bincount.settings import Settings
from bincount.tracking import runs

_log = logging.getLogger(__name__)

_MOST_PAIRS = 4000
"""Of a part: features of all pairs of the whole bucket would take gigabytes, and the regressions minutes."""
_CHECKED = 32  # photos that the exported model is checked on


def train(
    settings: Settings,
    *,
    run_id: str,
    features: str,
    **training: Any,
) -> dict:
    """Trains with the hyperparameters that `tune` chose, calibrates and saves the model.

    A frozen backbone gets a head; with `fine_tune_epochs` both are then trained
    together; compact is trained as a whole network from the start. The model is
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
    fine_tuning: dict[str, float] = {"epochs": config.fine_tune_epochs}
    fine_tuning |= {} if config.loss_mix is None else {"loss_mix": config.loss_mix}
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
        trained = _learn(settings, cached, best, whole, fine_tuning, config.seed, on_epoch)
    facts = {
        "counts": str(cached.manifest.counts),
        **cached.facts,
        "hyperparameters": best,
        "temperature": trained.temperature,
        "epochs": trained.epochs,
        "val_nll": trained.val_nll,
        "config": trained_from,
    }
    calibration = cached.photos(settings, "calibration")
    change = None if cached.trains_whole or config.fine_tune_epochs else _change_head(cached)
    _publish(trained, facts, folder, calibration.read(np.arange(min(_CHECKED, len(calibration)))), change)
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
    fine_tuning: dict[str, Any],
    seed: int,
    on_epoch: Callable[[str, int, Mapping[str, float]], None],
) -> TrainedModel:
    """The head on cached features, or the whole network on photos, or one after the other."""
    from bincount.learn import efficientnet_lite
    from bincount.learn.backbone import load_backbone
    from bincount.learn.model import Hyperparameters
    from bincount.learn.whole_network import FINE_TUNING, FINE_TUNING_LITE, Recipe

    backbone, classes = load_backbone(cached.backbone_path), len(cached.manifest.counts)
    if cached.trains_whole:
        # The number of epochs is fixed, so the validation part is trained on too and the calibration part validates.
        held_out = cached.photos(settings, "calibration")
        photos = {
            "train": cached.photos(settings, "train", "validation"),
            "validation": held_out,
            "calibration": held_out,
        }
        return train_whole(
            backbone, photos, classes, Recipe(**best), folder=folder, seed=seed, on_epoch=partial(on_epoch, "train")
        )
    examples = {part: cached.examples(part) for part in DEVELOPMENT_PARTS}
    trained = train_frozen(
        backbone,
        examples,
        classes,
        Hyperparameters(**best),
        refit=not fine_tuning["epochs"],
        seed=seed,
        on_epoch=partial(on_epoch, "train"),
    )
    if fine_tuning["epochs"]:
        photos = {part: cached.photos(settings, part) for part in DEVELOPMENT_PARTS}
        recipe = FINE_TUNING_LITE if cached.facts["backbone"] == efficientnet_lite.NAME else FINE_TUNING
        recipe = replace(recipe, **fine_tuning)
        trained = fine_tune(trained, photos, recipe, folder=folder, seed=seed, on_epoch=partial(on_epoch, "fine_tune"))
    return trained


class PairExamples(NamedTuple):
    """Pairs of photos of one bin, as a change head learns from them.

    Attributes:
        difference: (N, D) float32 features of the later photo minus those of the earlier one, both views averaged.
        before: (N,) class of the count before.
        after: (N,) class of the count after.
        blocks: (N,) name of each pair's block of ids.
    """

    difference: np.ndarray
    before: np.ndarray
    after: np.ndarray
    blocks: list[str]


def read_pairs(cached: CachedFeatures, *parts: str) -> PairExamples:
    """Reads the pairs of some parts, evenly spaced ones where there are very many."""
    differences, before, after, blocks = [], [], [], []
    for part in parts:
        records, examples = cached.manifest.part(part), cached.examples(part)
        pairs = pairs_of(records)
        for pair in pairs[:: -(-len(pairs) // _MOST_PAIRS) or 1]:
            earlier, later = mean_of_views(examples.features[list(pair)])
            differences.append(later - earlier)
            before.append(examples.classes[pair.before])
            after.append(examples.classes[pair.after])
            blocks.append(block_of(records[pair.after].id))
    return PairExamples(np.array(differences), np.array(before), np.array(after), blocks)


def _change_head(cached: CachedFeatures) -> ChangeHead | None:
    pairs = read_pairs(cached, "train", "validation")
    head = ChangeHead.fit(*pairs, cached.manifest.counts)
    if head is None:
        _log.info("change head: not learned, %d pairs are too few", len(pairs.blocks))
    else:
        _log.info("change head: learned from %d pairs", head.pairs)
    return head


def _publish(
    trained: TrainedModel, facts: dict[str, Any], folder: Path, photos: np.ndarray, change: ChangeHead | None
) -> None:
    """Saves the model, exported and checked on some photos, and its change head, in one step."""
    from bincount.learn.engine import save_network
    from bincount.learn.model import assemble
    from bincount.learn.predictor import FEATURES, MODEL

    beside = folder.with_name("model.beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model = assemble(trained.backbone, trained.head, trained.temperature)
    save_network(model, beside / MODEL, photos, outputs=(FEATURES,), scale=1.0)
    if change:
        change.write(beside)
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
) -> TrainedModel:
    """Trains a head on the cached features of a backbone that stays as it is.

    The validation part determines the number of epochs; the calibration part,
    which is used for nothing else, the temperature.

    Args:
        backbone: Where the features come from.
        examples: Those of "train", "validation" and "calibration".
        classes: How many counts to tell apart.
        hyperparameters: How to learn.
        refit: Whether the head that is kept is one trained for as many epochs
            on the validation part too (docs/log/learn.md has the gain).
            `val_nll` is the first head's, of bins new to it.
        seed: What first weights, order and dropout are drawn from.
        on_epoch: Called after each epoch of the first training.
    """
    fitted = fit_head(examples["train"], examples["validation"], classes, hyperparameters, seed=seed, on_epoch=on_epoch)
    head = fitted.head
    if refit:
        both = join_examples(examples["train"], examples["validation"])
        head = fit_head(both, None, classes, replace(hyperparameters, epochs=fitted.epochs), seed=seed).head
    held_out = examples["calibration"]
    temperature = temperature_of(head.predict_on_batch(mean_of_views(held_out.features)), held_out.classes)
    return TrainedModel(backbone, head, temperature, fitted.epochs, fitted.val_nll)


def train_whole(
    backbone: keras.Model,
    photos: Mapping[str, Photos],
    classes: int,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    on_epoch: OnEpoch,
) -> TrainedModel:
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
        on_epoch: Called after each epoch with "loss" and "val_nll" of each member: "member2/loss" and so on.

    Returns:
        One backbone whose features are all members', and one head.
    """
    members, heads, fits = [], [], []
    for number in range(recipe.members):
        own = seed + 2**16 * number
        keras.utils.set_random_seed(own)
        member = keras.models.clone_model(backbone)
        head = build_plain_head(member.output.shape[1], classes)

        def on_member_epoch(epoch: int, metrics: Mapping[str, float], number: int = number) -> None:
            on_epoch(epoch, {f"member{number + 1}/{name}": value for name, value in metrics.items()})

        fits.append(_fit(member, head, photos, recipe, folder, own, on_member_epoch))
        members.append(member)
        heads.append(head)
    return _calibrated(*average(members, heads), photos, max(fit.epochs for fit in fits))


def fine_tune(
    trained: TrainedModel, photos: Mapping[str, Photos], recipe: Recipe, *, folder: Path, seed: int, on_epoch: OnEpoch
) -> TrainedModel:
    """Continues the training of a trained model, backbone and head together; `folder` keeps the state of each epoch."""
    network = trained.backbone.get_layer("network")
    trained.backbone.trainable = True
    for layer in network.layers:
        layer.trainable = recipe.batch_norm or not isinstance(layer, keras.layers.BatchNormalization)
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
        if several:  # variables must be created in the scope that keeps them synchronous
            trainee = keras.models.clone_model(network)
            trainee.set_weights(network.get_weights())
        with mixed_precision(trainee.get_layer("backbone")) if on_gpu() else contextlib.nullcontext():
            fitted = fit_network(
                trainee, photos["train"], photos["validation"], recipe, folder=folder, seed=seed, on_epoch=on_epoch
            )
        network.set_weights(trainee.get_weights())
    return fitted


def _calibrated(backbone: keras.Model, head: keras.Model, photos: Mapping[str, Photos], epochs: int) -> TrainedModel:
    network = join(backbone, head)
    val_nll = nll_of(logits_of(network, photos["validation"]), photos["validation"].classes)
    held_out = photos["calibration"]
    temperature = temperature_of(logits_of(network, held_out), held_out.classes)
    return TrainedModel(backbone, head, temperature, epochs, val_nll)
