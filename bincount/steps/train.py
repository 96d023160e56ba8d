"""The final training, and the model that comes of it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bincount.core.errors import ConfigError
from bincount.edge import tracking
from bincount.edge.settings import Settings
from bincount.steps.prepared import Prepared, read_prepared

if TYPE_CHECKING:
    from bincount.learn.model import Hyperparameters

_log = logging.getLogger(__name__)


def train(settings: Settings, *, run_id: str, prepared: str, fine_tune_epochs: int = 0, seed: int = 0) -> dict:
    """Trains a head with the hyperparameters that `tune` found, calibrates it and saves the whole model.

    The model appears whole, or not at all; a killed training starts again.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; its curve is the training's.
        prepared: The features, as `prepare` named them.
        fine_tune_epochs: Epochs of training the whole network afterwards.
        seed: What the training draws from.

    Returns:
        `model`, the run that holds it, the best `epochs` and their `val_nll`.

    Raises:
        ConfigError: If there are no such features, or no search ended on them.
    """
    if fine_tune_epochs:
        raise ConfigError(f"fine_tune_epochs: must be 0 in this version, got {fine_tune_epochs}. Leave it at 0.")
    asked = {"prepared": prepared, "fine_tune_epochs": fine_tune_epochs, "seed": seed}
    folder = settings.run(run_id) / "model"
    facts_path = folder / "model.json"
    if facts_path.exists() and (facts := json.loads(facts_path.read_text()))["asked"] == asked:
        _log.info("train: the model is there already")
        return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}
    found = read_prepared(settings, prepared)
    hyperparameters = _best_of(settings.run(run_id) / "search" / "best.json", prepared)
    tracking.log_params(settings, run_id, {"fine_tune_epochs": fine_tune_epochs, **asdict(hyperparameters)})

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        tracking.log_metrics(settings, run_id, {f"train/{name}": value for name, value in metrics.items()}, step=epoch)

    facts = _train(found, hyperparameters, folder, asked=asked, seed=seed, on_epoch=on_epoch)
    tracking.log_metrics(settings, run_id, {name: facts[name] for name in ("val_nll", "temperature")})
    return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}


def _best_of(path: Path, prepared: str) -> Hyperparameters:
    from bincount.learn.model import Hyperparameters

    best = json.loads(path.read_text()) if path.exists() else {}
    if best.get("prepared") != prepared:
        raise ConfigError(f"train: needs a finished search on {prepared!r}, got none. Run `bincount tune` first.")
    return Hyperparameters(**best["best"])


def _train(
    found: Prepared, hyperparameters: Hyperparameters, folder: Path, *, asked: dict, seed: int, on_epoch
) -> dict:
    from bincount.learn.backbone import load_backbone
    from bincount.learn.calibrate import temperature_of
    from bincount.learn.fit import fit_head, mean_of_views
    from bincount.learn.model import assemble

    counts = found.manifest.counts
    fitted = fit_head(
        found.examples("train"),
        found.examples("validation"),
        len(counts),
        hyperparameters,
        seed=seed,
        on_epoch=on_epoch,
    )
    held_out = found.examples("calibration")
    logits = fitted.head.predict_on_batch(mean_of_views(held_out.features))
    temperature = temperature_of(logits, held_out.classes)
    backbone = load_backbone(found.backbone_path)
    facts = {
        "counts": str(counts),
        **found.facts,
        "hyperparameters": asdict(hyperparameters),
        "temperature": temperature,
        "epochs": fitted.epochs,
        "val_nll": fitted.val_nll,
        "asked": asked,
    }
    beside = folder.with_name("model.beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    assemble(backbone, fitted.head, temperature).save(beside / "model.keras")
    (beside / "model.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return facts
