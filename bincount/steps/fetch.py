"""Fetches one worker's share of a planned ingest."""

from __future__ import annotations

from typing import Any

from bincount.core.share import Share
from bincount.edge.settings import Settings
from bincount.edge.store import Store, open_store
from bincount.steps.ingesting.asked import Bounds
from bincount.steps.ingesting.join import find_finished
from bincount.steps.ingesting.request import Work
from bincount.steps.ingesting.shards import write_shards


def fetch(
    settings: Settings, *, request: str, index: int = 0, of: int = 1, store: Store | None = None, **bounds: Any
) -> dict[str, Any]:
    """Fetches every `of`-th planned shard, from the `index`-th on.

    The shares may be fetched at the same time, on machines that share the workspace, and each again on its own.

    Args:
        settings: Names workspace and buckets.
        request: What `plan` named it.
        index: Which share, 0 to `of` - 1.
        of: How many shares there are.
        store: The source, where it is open already.
        **bounds: What `Bounds` takes: workers and max_rejected.

    Returns:
        {"shards": how many were missing and are there now}.

    Raises:
        ConfigError: If a setting is wrong, nothing was planned, or the disk has no room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the source does not answer; finished shards are kept.
    """
    within, share = Bounds(**bounds), Share(index, of)
    work = Work.of(settings, request)
    asked = work.read_request()
    with work.doing(f"fetch {index} of {of}"):
        if find_finished(settings, request, within.max_rejected):
            return {"shards": 0}
        store = store or open_store(asked.source, settings)
        return {"shards": write_shards(store, settings, asked, within, share)}
