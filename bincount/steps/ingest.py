"""Brings bins in: from a bucket or a folder to shards and a manifest."""

from __future__ import annotations

import json
from typing import Any

from bincount.core.errors import ConfigError
from bincount.core.manifest import Manifest
from bincount.edge.settings import Settings
from bincount.steps.ingesting.limits import MAX_REJECTED, WORKERS
from bincount.steps.ingesting.partitions import fetch_partition, join_partitions, plan_partitions


def ingest(
    settings: Settings,
    *,
    source: str,
    ids: str | None = None,
    counts: str = "1-5",
    limit: int | None = None,
    seed: int = 0,
    workers: int = WORKERS,
    max_rejected: float = MAX_REJECTED,
    attempt: str | None = None,
) -> dict[str, Any]:
    """Brings bins in and notes them in an MLflow run.

    Args:
        settings: Names workspace, buckets and tracking server.
        source: "s3://BUCKET" or a folder in the bucket's layout.
        ids: A file of ids or a range such as "00001-01999"; None lists the source.
        counts: Which counts are wanted, such as "1-5" or "0-5+".
        limit: How many bins to draw, None for all.
        seed: What the draw depends on.
        workers: How many objects to ask for at a time, 1 to 512.
        max_rejected: Largest share of faulty bins that is published, 0 to 1.
        attempt: What is being attempted, such as a DAG run's id: a retry finds its MLflow run again.

    Returns:
        {"run_id", "manifest", "bins", "rejected", "siblings", "parts": {part: bins}}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty or a part is empty.
        StoreError: If the source does not answer; running again goes on from there.
    """
    from bincount.edge import tracking

    run_id = tracking.open_run(settings, attempt=attempt)
    try:
        summary = collect(
            settings,
            source=source,
            ids=ids,
            counts=counts,
            limit=limit,
            seed=seed,
            workers=workers,
            max_rejected=max_rejected,
        )
    except BaseException:
        tracking.finish_run(settings, run_id, "FAILED")
        raise
    asked = {"source": source, "ids": ids, "counts": counts, "limit": limit, "seed": seed}
    tracking.log_params(settings, run_id, asked)
    _log_card(settings, run_id, summary["manifest"])
    return {"run_id": run_id, **summary}


def _log_card(settings: Settings, run_id: str, digest: str) -> None:
    from bincount.edge import tracking
    from bincount.steps.data_card import draw_card

    card = json.loads((settings.manifests / f"{digest}.card.json").read_bytes())
    profile = json.dumps({"bins": card["bins"], **card["parts"]})
    tracking.log_dataset(settings, run_id, digest=digest, source=card["source"], profile=profile)
    tracking.log_dict(settings, run_id, card, "data/card.json")
    tracking.log_figures(settings, run_id, draw_card(Manifest.read(settings.manifests, digest), card))


def collect(
    settings: Settings,
    *,
    source: str,
    ids: str | None = None,
    counts: str = "1-5",
    limit: int | None = None,
    seed: int = 0,
    workers: int = WORKERS,
    max_rejected: float = MAX_REJECTED,
) -> dict[str, Any]:
    """Brings bins in without noting them anywhere; arguments and errors are `ingest`'s.

    Returns:
        {"manifest", "bins", "rejected", "siblings", "parts"}.
    """
    _check(limit, workers, max_rejected)
    request = plan_partitions(
        settings,
        source=source,
        ids=ids,
        counts=counts,
        limit=limit,
        seed=seed,
        workers=workers,
        max_rejected=max_rejected,
    )
    fetch_partition(settings, request, workers=workers, max_rejected=max_rejected)
    return join_partitions(settings, request, max_rejected=max_rejected)


def _check(limit: int | None, workers: int, max_rejected: float) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: must be 1 or more, got {limit!r}. Leave it out for all bins.")
    if not 1 <= workers <= 512:
        raise ConfigError(f"--workers: must be 1 to 512, got {workers!r}. Try {WORKERS}.")
    if not 0 <= max_rejected <= 1:
        raise ConfigError(f"--max-rejected: must be a share from 0 to 1, got {max_rejected!r}. Try {MAX_REJECTED}.")
