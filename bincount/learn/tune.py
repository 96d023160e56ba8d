"""The search for hyperparameters, each trial a run nested in the run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bincount.config import SearchConfig, parse_tunable
from bincount.files import write_json
from bincount.learn.feature_cache import CachedFeatures, read_features
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking import runs

if TYPE_CHECKING:
    from bincount.learn.search import OnTrial, OnTrialEpoch

_log = logging.getLogger(__name__)


def tune(
    settings: Settings,
    *,
    run_id: str,
    features: str,
    **search: Any,
) -> dict:
    """Searches learning rate, batch size and epochs on the cached features, and those of the fine-tuning if asked to.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; each trial is nested in it, with its curve.
        features: The features, as `prepare` named them.
        **search: What `SearchConfig` takes.

    Returns:
        `trials` that ended, the `best` hyperparameters of the head and their `val_nll`; with `search_fine_tuning`
        those of the `fine_tuning`.

    Raises:
        ConfigError: If there are no such features, or a choice is unknown.
        DataError: If every trial failed.
        StoreError: If the tracking server does not answer; a later call continues the search.
    """
    from bincount.learn.search import search_heads

    config = SearchConfig(**search)
    cached = read_features(settings, features)
    names = ("trials", "max_epochs", "search", "tune_also", "search_fine_tuning")
    runs.log_params(settings, run_id, {name: getattr(config, name) for name in names})
    shared, folder = open_workspace(settings), settings.run(run_id) / "search"
    shared.pull_folder(folder)
    opened: dict[str, str] = {}

    def run_of(trial: str) -> str:
        if trial not in opened:
            opened[trial] = runs.open_trial(settings, run_id, f"trial {trial}")
        return opened[trial]

    def on_epoch(trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        runs.log_metrics(settings, run_of(trial), metrics, step=epoch)

    def on_trial(trial: str, hyperparameters: Mapping[str, Any], status: str, score: float | None) -> None:
        nested = run_of(trial)
        runs.log_params(settings, nested, hyperparameters)
        if score is not None:
            runs.log_metrics(settings, nested, {"best_val_nll": score})
        shared.push(*folder.rglob("trial.json"), folder)  # KerasTuner's list of trials after the trials
        completed = status == "COMPLETED"
        runs.finish_run(settings, nested, "FINISHED" if completed else "FAILED")
        _log.info("trial %s: %s %s, val_nll %s", trial, status, dict(hyperparameters), score)

    with runs.watch_machine(settings, run_id):
        best = search_heads(
            folder,
            cached.examples("train"),
            cached.examples("validation"),
            len(cached.manifest.counts),
            data=features,
            trials=config.trials,
            max_epochs=config.max_epochs,
            seed=config.seed,
            kind=config.search,
            also=parse_tunable(config.tune_also),
            loss_mix=config.loss_mix or 0.0,
            on_epoch=on_epoch,
            on_trial=on_trial,
        )
        answer = {"trials": best.trials, "best": asdict(best.best), "val_nll": best.val_nll}
        if config.search_fine_tuning:
            answer["fine_tuning"] = _search_fine_tuning(settings, cached, config, folder, features, on_epoch, on_trial)
    runs.log_metrics(settings, run_id, {"tune/val_nll": best.val_nll})
    write_json(folder / "best.json", {"features": features, **answer})
    shared.push(folder)
    return answer


def _search_fine_tuning(
    settings: Settings,
    cached: CachedFeatures,
    config: SearchConfig,
    folder: Path,
    features: str,
    on_epoch: OnTrialEpoch,
    on_trial: OnTrial,
) -> dict[str, Any]:
    """The best learning rate, batch size and epochs of the fine-tuning, judged on the validation part."""
    from bincount.dataset.split import AUXILIARY
    from bincount.learn.backbone import load_backbone
    from bincount.learn.fine_tuning import fine_tune, recipe_of, scored_of
    from bincount.learn.search import search_fine_tuning

    shared, manifest = open_workspace(settings), cached.manifest
    learned = cached.photos(settings, "train", AUXILIARY, counts=manifest.learned_counts)
    held_out = cached.photos(settings, "validation", counts=manifest.counts)
    recipe = recipe_of(cached.facts["backbone"], epochs=config.fine_tune_epochs, loss_mix=config.loss_mix)

    def fit(values: Mapping[str, Any], watch: Callable[[int, Mapping[str, float]], None]) -> float:
        tuned = fine_tune(
            load_backbone(cached.backbone_path),
            learned,
            held_out,
            len(manifest.learned_counts),
            replace(recipe, **values),
            scored=scored_of(manifest),
            folder=folder / "fine_tuning",
            seed=config.seed,
            on_epoch=watch,
            on_state=lambda: shared.push(folder / "fine_tuning"),
        )
        return tuned.val_nll

    def named(trial: str) -> str:
        return f"fine-tuning {trial}"

    trials, values, val_nll = search_fine_tuning(
        folder,
        fit,
        data=features,
        trials=config.trials,
        max_epochs=config.fine_tune_epochs,
        minutes=config.search_minutes,
        seed=config.seed,
        on_epoch=lambda trial, epoch, metrics: on_epoch(named(trial), epoch, metrics),
        on_trial=lambda trial, *told: on_trial(named(trial), *told),
    )
    shared.delete_folder(folder / "fine_tuning")
    shutil.rmtree(folder / "fine_tuning", ignore_errors=True)
    _log.info("fine-tuning: %d trials, the best with %s, val_nll %.4f", trials, values, val_nll)
    return values
