"""Decides what an ingest will fetch, so that many workers can share the fetching."""

from __future__ import annotations

from typing import Any

from bincount.core.counts import Counts
from bincount.core.manifest import Manifest
from bincount.edge.settings import Settings
from bincount.edge.store import Store, open_store
from bincount.steps.ingesting.asked import Asked
from bincount.steps.ingesting.candidates import find_candidates
from bincount.steps.ingesting.join import find_finished
from bincount.steps.ingesting.plan import make_plan
from bincount.steps.ingesting.request import Request, Work


def plan(settings: Settings, *, store: Store | None = None, **asked: Any) -> dict[str, Any]:
    """Reads metadata and decides which bins go into which shard.

    Args:
        settings: Names workspace and buckets.
        store: The source, where it is open already.
        **asked: What `Asked` takes: `ingest`'s arguments.

    Returns:
        {"request": the name by which `fetch` finds the plan, "shards": how many there are,
        "finished": whether the manifest is there already, so that there is nothing to fetch}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty or a part would be empty.
        StoreError: If the source does not answer; running again goes on from there.
    """
    wanted = Asked(**asked)
    store = store or open_store(wanted.source, settings)
    candidates = find_candidates(store, wanted.ids)
    request = Request(
        source=store.source,
        candidates=candidates.digest,
        counts=str(Counts.parse(wanted.counts)),
        limit=wanted.limit,
        seed=None if wanted.limit is None else wanted.seed,
    )
    with Work.of(settings, request.name).doing("plan"):
        if done := find_finished(settings, request.name, wanted.max_rejected):
            shards = len(Manifest.read(settings.manifests, done["manifest"]).shards)
        else:
            shards = len(make_plan(store, settings, request, candidates, wanted).shards)
        return {"request": request.name, "shards": shards, "finished": done is not None}
