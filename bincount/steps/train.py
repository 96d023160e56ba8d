"""The final training, and the model that comes of it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bincount.core.config import check_loss_mix
from bincount.core.errors import ConfigError
from bincount.core.evaluation import LEARNED
from bincount.core.files import is_whole_zip, read_json
from bincount.edge import tracking
from bincount.edge.settings import Settings
from bincount.steps.prepared import Prepared, read_prepared

if TYPE_CHECKING:
    from bincount.learn.trained import Trained

_log = logging.getLogger(__name__)


def train(
    settings: Settings,
    *,
    run_id: str,
    prepared: str,
    fine_tune_epochs: int = 0,
    loss_mix: float | None = None,
    seed: int = 0,
) -> dict:
    """Trains with the hyperparameters that `tune` found, calibrates and saves the whole model.

    A frozen backbone gets a head; then, if asked for, both are trained on
    together; compact is trained whole from the start. The model appears whole,
    or not at all. A killed training of a head starts again, one of a whole
    network goes on after its last epoch.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; its curve is the training's.
        prepared: The features, as `prepare` named them.
        fine_tune_epochs: Epochs of training the whole network afterwards.
        loss_mix: Share of soft neighbour labels in the fine-tuning's loss; None: `endtoend.FINE_TUNING`'s.
            What a head or compact learns with, `tune` has settled.
        seed: What the training draws from.

    Returns:
        `model`, the run that holds it, the best `epochs` and their `val_nll`.

    Raises:
        ConfigError: If there are no such features, or no search ended on them.
    """
    check_loss_mix(loss_mix)
    fine_tuning = {"epochs": fine_tune_epochs} | ({} if loss_mix is None else {"loss_mix": loss_mix})
    asked = {"prepared": prepared, **{f"fine_tune_{name}": value for name, value in fine_tuning.items()}, "seed": seed}
    folder = settings.run(run_id) / "model"
    facts = read_json(folder / "model.json")
    if facts and facts["asked"] == asked and is_whole_zip(folder / "model.keras"):
        _log.info("train: the model is there already")
        return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}
    found = read_prepared(settings, prepared)
    best = _best_of(settings.run(run_id) / "search" / "best.json", prepared)
    tracking.log_params(settings, run_id, {"fine_tune_epochs": fine_tune_epochs, **best})

    def on_epoch(stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
        named = {f"{stage}/{name}": value for name, value in metrics.items()}
        tracking.log_metrics(settings, run_id, named, step=epoch)
        _log.info("%s: epoch %d, %s", stage, epoch + 1, ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))

    whole = folder.with_name("whole") / prepared
    with tracking.watch_machine(settings, run_id):
        trained = _learn(settings, found, best, whole, fine_tuning, seed, on_epoch)
    facts = {
        "counts": str(found.manifest.counts),
        **found.facts,
        "hyperparameters": best,
        "temperature": trained.temperature,
        "epochs": trained.epochs,
        "val_nll": trained.val_nll,
        "asked": asked,
    }
    _publish(trained, facts, folder)
    tracking.log_metrics(settings, run_id, {name: facts[name] for name in ("val_nll", "temperature")})
    return {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}


def _best_of(path: Path, prepared: str) -> dict[str, Any]:
    best = read_json(path)
    if best is None or best["prepared"] != prepared:
        raise ConfigError(f"train: needs a finished search on {prepared!r}, got none. Run `bincount tune` first.")
    return best["best"]


def _learn(
    settings: Settings,
    found: Prepared,
    best: dict[str, Any],
    folder: Path,
    fine_tuning: dict[str, Any],
    seed: int,
    on_epoch: Callable[[str, int, Mapping[str, float]], None],
) -> Trained:
    """The head on cached features, or the whole network on photos, or one after the other."""
    from bincount.learn.backbone import load_backbone
    from bincount.learn.endtoend import FINE_TUNING, Recipe
    from bincount.learn.model import Hyperparameters
    from bincount.learn.trained import fine_tune, train_frozen, train_whole

    backbone, classes = load_backbone(found.backbone_path), len(found.manifest.counts)
    if found.trains_whole:
        # The epochs are given, so the validation part may teach; the calibration part judges.
        judges = found.photos(settings, "calibration")
        photos = {"train": found.photos(settings, "train", "validation"), "validation": judges, "calibration": judges}
        return train_whole(
            backbone, photos, classes, Recipe(**best), folder=folder, seed=seed, on_epoch=partial(on_epoch, "train")
        )
    examples = {part: found.examples(part) for part in LEARNED}
    told = partial(on_epoch, "train")
    trained = train_frozen(
        backbone, examples, classes, Hyperparameters(**best), refit=not fine_tuning["epochs"], seed=seed, on_epoch=told
    )
    if fine_tuning["epochs"]:
        photos = {part: found.photos(settings, part) for part in LEARNED}
        recipe = replace(FINE_TUNING, **fine_tuning)
        trained = fine_tune(trained, photos, recipe, folder=folder, seed=seed, on_epoch=partial(on_epoch, "fine_tune"))
    return trained


def _publish(trained: Trained, facts: dict[str, Any], folder: Path) -> None:
    from bincount.learn.model import assemble

    beside = folder.with_name("model.beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    assemble(trained.backbone, trained.head, trained.temperature).save(beside / "model.keras")
    (beside / "model.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    shutil.rmtree(folder.with_name("whole"), ignore_errors=True)  # the epochs' state has done its duty
