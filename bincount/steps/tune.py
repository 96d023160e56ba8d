"""The search for hyperparameters, each trial a run nested in the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bincount.core.config import check_loss_mix, parse_tunable
from bincount.core.files import write_json
from bincount.edge import runs, tracking
from bincount.edge.settings import Settings
from bincount.steps.prepared import read_prepared

_log = logging.getLogger(__name__)


def tune(
    settings: Settings,
    *,
    run_id: str,
    prepared: str,
    trials: int = 5,
    max_epochs: int = 50,
    search: str = "random",
    tune_also: str | None = None,
    loss_mix: float | None = None,
    seed: int = 0,
) -> dict:
    """Searches learning rate, batch size and epochs on the cached features.

    For compact, where a trial would be a whole training, it takes the
    settings of `endtoend.FROM_SCRATCH`, but `max_epochs` at most.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run; each trial is nested in it, with its curve.
        prepared: The features, as `prepare` named them.
        trials: How many sets of hyperparameters to try.
        max_epochs: Most epochs of a trial.
        search: How trials are chosen: "random", "bayesian" or "grid".
        tune_also: What to search besides: "dropout", "units" and "loss_mix", separated by commas.
        loss_mix: Share of soft neighbour labels in the loss; None: 0 for a head, compact's own for compact.
        seed: What the search draws from.

    Returns:
        `trials` that ended, the `best` hyperparameters and their `val_nll` (None without a trial).

    Raises:
        ConfigError: If there are no such features, or a choice is unknown.
        DataError: If every trial failed.
        StoreError: If the tracking server does not answer; the search goes on where it was when run again.
    """
    from bincount.learn.search import search_heads

    also = parse_tunable(tune_also)
    check_loss_mix(loss_mix)
    found = read_prepared(settings, prepared)
    asked = {"trials": trials, "max_epochs": max_epochs, "search": search, "tune_also": tune_also}
    tracking.log_params(settings, run_id, asked)
    folder = settings.run(run_id) / "search"
    if found.trains_whole:
        from bincount.learn.endtoend import FROM_SCRATCH

        _log.info("tune: a trial would be a whole training, so compact keeps its own settings")
        recipe = replace(FROM_SCRATCH, epochs=min(max_epochs, FROM_SCRATCH.epochs))
        if loss_mix is not None:
            recipe = replace(recipe, loss_mix=loss_mix)
        return _publish(folder, prepared, {"trials": 0, "best": asdict(recipe), "val_nll": None})
    opened: dict[str, str] = {}

    def run_of(trial: str) -> str:
        if trial not in opened:
            opened[trial] = runs.open_trial(settings, run_id, f"trial {trial}")
        return opened[trial]

    def on_epoch(trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        tracking.log_metrics(settings, run_of(trial), metrics, step=epoch)

    def on_trial(trial: str, hyperparameters: Mapping[str, Any], status: str, score: float | None) -> None:
        nested = run_of(trial)
        tracking.log_params(settings, nested, hyperparameters)
        if score is not None:
            tracking.log_metrics(settings, nested, {"best_val_nll": score})
        completed = status == "COMPLETED"
        runs.finish_run(settings, nested, "FINISHED" if completed else "FAILED")
        _log.info("trial %s: %s %s, val_nll %s", trial, status, dict(hyperparameters), score)

    with tracking.watch_machine(settings, run_id):
        best = search_heads(
            folder,
            found.examples("train"),
            found.examples("validation"),
            len(found.manifest.counts),
            data=prepared,
            trials=trials,
            max_epochs=max_epochs,
            seed=seed,
            kind=search,
            also=also,
            loss_mix=loss_mix or 0.0,
            on_epoch=on_epoch,
            on_trial=on_trial,
        )
    tracking.log_metrics(settings, run_id, {"tune/val_nll": best.val_nll})
    return _publish(folder, prepared, {"trials": best.trials, "best": asdict(best.best), "val_nll": best.val_nll})


def _publish(folder: Path, prepared: str, answer: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "best.json", {"prepared": prepared, **answer})
    return answer
