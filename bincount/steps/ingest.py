"""Brings bins in: from a bucket or a folder to shards and a manifest."""

from __future__ import annotations

import json
from typing import Any

from bincount.core.manifest import Manifest
from bincount.edge.settings import Settings
from bincount.edge.store import open_store
from bincount.steps.fetch import fetch
from bincount.steps.ingesting.asked import Asked
from bincount.steps.ingesting.join import join
from bincount.steps.plan import plan


def ingest(settings: Settings, *, attempt: str | None = None, **asked: Any) -> dict[str, Any]:
    """Brings bins in and notes them in an MLflow run.

    Whatever `plan` and `fetch` have done of it is not done again: after them it only joins.

    Args:
        settings: Names workspace, buckets and tracking server.
        attempt: What is being attempted, such as a DAG run's id: a retry finds its MLflow run again.
        **asked: What `Asked` takes: source, ids, counts, limit, seed, workers, max_rejected.

    Returns:
        {"run_id", "manifest", "bins", "rejected", "siblings", "parts": {part: bins}}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty or a part is empty.
        StoreError: If the source does not answer; running again goes on from there.
    """
    from bincount.edge import runs, tracking

    run_id = runs.open_run(settings, attempt=attempt)
    with runs.marking_failed(settings, run_id):
        summary = collect(settings, **asked)
        wanted = Asked(**asked)
        chosen = {name: getattr(wanted, name) for name in ("source", "ids", "counts", "limit", "seed")}
        tracking.log_params(settings, run_id, chosen)
        _log_card(settings, run_id, summary["manifest"])
    return {"run_id": run_id, **summary}


def collect(settings: Settings, **asked: Any) -> dict[str, Any]:
    """Brings bins in without noting them anywhere; arguments and errors are `ingest`'s.

    Returns:
        {"manifest", "bins", "rejected", "siblings", "parts"}, the same however many workers fetched.
    """
    wanted = Asked(**asked)
    store = open_store(wanted.source, settings)
    planned = plan(settings, store=store, **asked)
    request, max_rejected = planned["request"], wanted.max_rejected
    if not planned["finished"]:
        fetch(settings, request=request, store=store, workers=wanted.workers, max_rejected=max_rejected)
    return join(settings, request, max_rejected)


def _log_card(settings: Settings, run_id: str, digest: str) -> None:
    from bincount.edge import tracking
    from bincount.steps.data_card import draw_card

    card = json.loads((settings.manifests / f"{digest}.card.json").read_bytes())
    profile = json.dumps({"bins": card["bins"], **card["parts"]})
    tracking.log_dataset(settings, run_id, digest=digest, source=card["source"], profile=profile)
    tracking.log_dict(settings, run_id, card, "data/card.json")
    tracking.log_figures(settings, run_id, draw_card(Manifest.read(settings.manifests, digest), card))
