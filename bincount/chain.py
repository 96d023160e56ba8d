"""The whole chain in one process, as the DAG runs it task by task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from bincount.config import BinsConfig, ChainConfig, NetworkConfig, SearchConfig, TrainConfig
from bincount.schema import values_of
from bincount.settings import Settings

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
    from bincount.dataset.ingest import ingest
    from bincount.evaluate.evaluate import evaluate
    from bincount.learn.prepare import prepare
    from bincount.learn.train import train
    from bincount.learn.tune import tune
    from bincount.registry.promotion import promote
    from bincount.registry.register import register

    def step(verb: Callable[..., dict], **arguments: Any) -> dict:
        began = time.monotonic()
        _log.info("%s: started", verb.__name__)
        answer = verb(settings, **arguments)
        _log.info("%s: done in %.1f s", verb.__name__, time.monotonic() - began)
        return answer

    ingested = step(ingest, **values_of(config, BinsConfig), other_counts=config.fine_tune_epochs > 0)
    run_id, manifest = ingested["run_id"], ingested["manifest"]
    features = step(prepare, run_id=run_id, manifest=manifest, **values_of(config, NetworkConfig))["features"]
    step(tune, run_id=run_id, features=features, **values_of(config, SearchConfig))
    step(train, run_id=run_id, features=features, **values_of(config, TrainConfig))
    metrics = step(evaluate, run_id=run_id)["metrics"]
    version = step(register, run_id=run_id)["model_version"]
    decision = step(promote, model_version=version)
    return {
        "manifest": manifest,
        "run_id": run_id,
        "model_version": version,
        "metrics": metrics,
        "promoted": decision["promoted"],
        "reason": decision["reason"],
    }
