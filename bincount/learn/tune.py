"""The search for hyperparameters, each trial a run nested in the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bincount.config import SearchConfig, parse_tunable
from bincount.files import write_json
from bincount.learn.feature_cache import read_features
from bincount.settings import Settings
from bincount.tracking import runs

_log = logging.getLogger(__name__)


def tune(
    settings: Settings,
    *,
    run_id: str,
    features: str,
    **search: Any,
) -> dict:
    """Searches learning rate, batch size and epochs on the cached features.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; each trial is nested in it, with its curve.
        features: The features, as `prepare` named them.
        **search: What `SearchConfig` takes.

    Returns:
        `trials` that ended, the `best` hyperparameters and their `val_nll`.

    Raises:
        ConfigError: If there are no such features, or a choice is unknown.
        DataError: If every trial failed.
        StoreError: If the tracking server does not answer; a later call continues the search.
    """
    from bincount.learn.search import search_heads

    config = SearchConfig(**search)
    cached = read_features(settings, features)
    names = ("trials", "max_epochs", "search", "tune_also")
    runs.log_params(settings, run_id, {name: getattr(config, name) for name in names})
    folder = settings.run(run_id) / "search"
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
    runs.log_metrics(settings, run_id, {"tune/val_nll": best.val_nll})
    return _publish(folder, features, {"trials": best.trials, "best": asdict(best.best), "val_nll": best.val_nll})


def _publish(folder: Path, features: str, answer: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "best.json", {"features": features, **answer})
    return answer
