"""The whole chain in one process, as the DAG runs it task by task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bincount.core.config import ChainConfig
from bincount.edge.settings import Settings

_log = logging.getLogger(__name__)


def run_chain(settings: Settings, config: ChainConfig) -> dict:
    """Takes bins from their bucket to a judged, registered model.

    Args:
        settings: Where things are on this machine.
        config: The chain's parameters.

    Returns:
        `manifest`, `run_id`, `model_version`, `metrics`, `promoted` and `reason`.

    Raises:
        BincountError: What the failing step raises; earlier steps' work is kept.
    """
    from bincount.steps.evaluate import evaluate
    from bincount.steps.ingest import ingest
    from bincount.steps.prepare import prepare
    from bincount.steps.promote import promote
    from bincount.steps.register import register
    from bincount.steps.train import train
    from bincount.steps.tune import tune

    def step(verb: Callable[..., dict], **arguments) -> dict:
        began = time.monotonic()
        _log.info("%s: started", verb.__name__)
        answer = verb(settings, **arguments)
        _log.info("%s: done in %.1f s", verb.__name__, time.monotonic() - began)
        return answer

    seed = config.seed
    ingested = step(ingest, source=config.source, counts=config.counts, limit=config.limit, seed=seed)
    run_id = ingested["run_id"]
    prepared = step(
        prepare,
        run_id=run_id,
        manifest=ingested["manifest"],
        backbone=config.backbone,
        weights=config.weights,
        fit=config.fit,
        image_px=config.image_px,
        seed=seed,
    )["prepared"]
    step(
        tune,
        run_id=run_id,
        prepared=prepared,
        trials=config.trials,
        max_epochs=config.max_epochs,
        search=config.search,
        tune_also=config.tune_also,
        loss_mix=config.loss_mix,
        seed=seed,
    )
    step(
        train,
        run_id=run_id,
        prepared=prepared,
        fine_tune_epochs=config.fine_tune_epochs,
        loss_mix=config.loss_mix,
        seed=seed,
    )
    metrics = step(evaluate, run_id=run_id)["metrics"]
    version = step(register, run_id=run_id)["model_version"]
    decision = step(promote, model_version=version)
    return {
        "manifest": ingested["manifest"],
        "run_id": run_id,
        "model_version": version,
        "metrics": metrics,
        "promoted": decision["promoted"],
        "reason": decision["reason"],
    }
