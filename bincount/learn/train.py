"""The final training and its model."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bincount.config import TrainConfig
from bincount.dataset.split import AUXILIARY, DEVELOPMENT_PARTS, LEARNED_PARTS
from bincount.errors import ConfigError
from bincount.files import read_json
from bincount.learn.backbone import fine_width, load_backbone
from bincount.learn.engine import engine_of, is_whole_network, save_network
from bincount.learn.feature_cache import CachedFeatures, read_features
from bincount.learn.feature_extraction import Examples, join_examples
from bincount.learn.fine_tuning import TrainedModel, fine_tune, recipe_of, scored_of
from bincount.learn.head_training import fit_head, mean_of_views
from bincount.learn.judges import Judges, learn_judges
from bincount.learn.model import Hyperparameters, assemble
from bincount.learn.network_training import OnEpoch, Recipe
from bincount.learn.predictor import FEATURES, MODEL
from bincount.learn.prepare import choice_of
from bincount.learn.temperature import temperature_of
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking import runs

_log = logging.getLogger(__name__)

NOTE = "model.json"
"""The facts of a model, such as its counts and settings; a folder that has it is complete."""
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
    shared, folder = open_workspace(settings), settings.run(run_id) / "model"
    shared.pull_folder(settings.run(run_id))
    facts = read_json(folder / NOTE)
    if facts and facts.get("config") == trained_from and is_whole_network(folder / MODEL):
        _log.info("train: the model is there already")
        shared.publish(folder, last=NOTE)
        return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}
    cached = read_features(settings, features)
    search = _search_of(settings.run(run_id) / "search" / "best.json", features)
    best = search["best"]
    recipe = recipe_of(cached.facts["backbone"], epochs=config.fine_tune_epochs, loss_mix=config.loss_mix)
    if config.fine_tune_epochs:
        recipe = replace(recipe, **search.get("fine_tuning", {}))
    fine_tuning = asdict(recipe) if config.fine_tune_epochs else {}
    params = {f"fine_tune_{name}": value for name, value in fine_tuning.items()}
    runs.log_params(settings, run_id, {"fine_tune_epochs": config.fine_tune_epochs, **best, **params})
    whole = folder.with_name("whole") / features
    ended: list[float] = []  # when the epochs that this process trains end

    def on_state() -> None:
        shared.push(whole)
        ended.append(time.monotonic())

    def on_epoch(stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
        named = {f"{stage}/{name}": value for name, value in metrics.items()}
        runs.log_metrics(settings, run_id, named, step=epoch)
        told = ", ".join(f"{k} {v:.4f}" for k, v in metrics.items())
        if len(ended) > 1:  # the first one waits for photos to be decoded
            epoch_s = (ended[-1] - ended[0]) / (len(ended) - 1)
            told += f", {epoch_s * (recipe.epochs - epoch - 1) / 60:.0f} minutes left" if epoch_s > 1 else ""
        _log.info("%s: epoch %d, %s", stage, epoch + 1, told)

    with runs.watch_machine(settings, run_id):
        trained = _learn(settings, cached, best, whole, recipe, config.seed, on_epoch, on_state)
    facts = {
        "counts": str(cached.manifest.counts),
        **cached.facts,
        **choice_of(settings, run_id, features),
        "hyperparameters": fine_tuning or best,
        "temperature": trained.temperature,
        "epochs": trained.epochs,
        "val_nll": trained.val_nll,
        "config": trained_from,
    }
    calibration = cached.photos(settings, "calibration", counts=cached.manifest.counts)
    fine_tuned = trained.backbone if config.fine_tune_epochs else None
    width = fine_width(trained.backbone)
    judges = learn_judges(settings, cached, trained.predict, fine_width=width, fine_tuned=fine_tuned, sums=trained.sums)
    _publish(trained, facts, folder, calibration.read(np.arange(min(_CHECKED, len(calibration)))), judges)
    shared.publish(folder, last=NOTE)
    shared.delete_folder(whole.parent)
    runs.log_metrics(settings, run_id, {name: facts[name] for name in ("val_nll", "temperature")})
    return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}


def _search_of(path: Path, features: str) -> dict[str, Any]:
    search = read_json(path)
    if search is None or search["features"] != features:
        raise ConfigError(f"train: needs a finished search on {features!r}, got none. Run `bincount tune` first.")
    return search


def _learn(
    settings: Settings,
    cached: CachedFeatures,
    best: dict[str, Any],
    folder: Path,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[str, int, Mapping[str, float]], None],
    on_state: Callable[[], None],
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
    return fine_tune(
        backbone,
        learned,
        held_out,
        len(manifest.learned_counts),
        recipe,
        scored=scored_of(manifest),
        folder=folder,
        seed=seed,
        on_epoch=partial(on_epoch, "fine_tune"),
        on_state=on_state,
    )


def _publish(trained: TrainedModel, facts: dict[str, Any], folder: Path, photos: np.ndarray, judges: Judges) -> None:
    """Saves the model, exported and checked on some photos, and its judges, in one step."""
    beside = folder.with_name("model.beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model = assemble(trained.backbone, trained.head, trained.temperature)
    note = save_network(model, beside / MODEL, photos, outputs=(FEATURES,), scale=1.0)
    for judge in judges:
        if judge:
            judge.write(beside)
    (beside / NOTE).write_text(json.dumps({**facts, "engine": engine_of(note)}, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    shutil.rmtree(folder.with_name("whole"), ignore_errors=True)  # the state after each epoch


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
