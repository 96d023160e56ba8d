"""Brings bins in: from a bucket or a folder to shards and a manifest."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from bincount.config import IngestConfig
from bincount.counts import Counts
from bincount.dataset.data_card import card_of
from bincount.dataset.fetch import fetch
from bincount.dataset.job import IngestJob, IngestRequest, check_rejected, find_finished
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.placement import check_parts
from bincount.dataset.plan import Plan, PlannedBin, plan
from bincount.dataset.rejection import Rejection, table_of
from bincount.dataset.shards import ShardIndex
from bincount.dataset.split import SHARES, check_disjoint
from bincount.errors import StoreError
from bincount.files import write_atomically, write_json
from bincount.settings import Settings
from bincount.store.open_store import open_store

_log = logging.getLogger(__name__)


def ingest(settings: Settings, *, attempt: str | None = None, **asked: Any) -> dict[str, Any]:
    """Brings bins in and notes them in an MLflow run.

    Whatever `plan` and `fetch` have done of it is not done again: after them it only joins.

    Args:
        settings: Names workspace, buckets and tracking server.
        attempt: What is being attempted, such as a DAG run's id: a retry finds its MLflow run again.
        **asked: What `IngestConfig` takes: source, ids, counts, limit, seed, workers, max_rejected.

    Returns:
        {"run_id", "manifest", "bins", "rejected", "siblings", "parts": {part: bins}}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty or a part is empty.
        StoreError: If the source does not answer; running again goes on from there.
    """
    from bincount.tracking import runs

    run_id = runs.open_run(settings, attempt=attempt)
    with runs.marking_failed(settings, run_id):
        summary = collect(settings, **asked)
        wanted = IngestConfig(**asked)
        chosen = {name: getattr(wanted, name) for name in ("source", "ids", "counts", "limit", "seed")}
        runs.log_params(settings, run_id, chosen)
        _log_card(settings, run_id, summary["manifest"])
    return {"run_id": run_id, **summary}


def collect(settings: Settings, **asked: Any) -> dict[str, Any]:
    """Brings bins in without noting them anywhere; arguments and errors are `ingest`'s.

    Returns:
        {"manifest", "bins", "rejected", "siblings", "parts"}, the same however many workers fetched.
    """
    wanted = IngestConfig(**asked)
    store = open_store(wanted.source, settings)
    planned = plan(settings, store=store, **asked)
    name, max_rejected = planned["plan"], wanted.max_rejected
    if not planned["finished"]:
        fetch(settings, plan=name, store=store, workers=wanted.workers, max_rejected=max_rejected)
    return join(settings, name, max_rejected)


def _log_card(settings: Settings, run_id: str, digest: str) -> None:
    from bincount.dataset.data_card import draw_card
    from bincount.tracking import runs

    card = json.loads((settings.manifests / f"{digest}.card.json").read_bytes())
    profile = json.dumps({"bins": card["bins"], **card["parts"]})
    runs.log_dataset(settings, run_id, digest=digest, source=card["source"], profile=profile)
    runs.log_dict(settings, run_id, card, "data/card.json")
    runs.log_figures(settings, run_id, draw_card(Manifest.read(settings.manifests, digest), card))


def join(settings: Settings, request: str, max_rejected: float) -> dict[str, Any]:
    """Writes table, card and, last, the manifest of all planned shards; finds them where they are there already.

    Args:
        settings: Names the workspace.
        request: The request's name.
        max_rejected: Largest share of faulty bins that is published, 0 to 1.

    Returns:
        {"manifest": its digest, "bins": n, "rejected": n, "siblings": n, "parts": {part: n}}:
        `rejected` are the faulty bins, `siblings` those set aside for the split's sake.

    Raises:
        DataError: If too many bins are faulty or a part is empty; nothing is published.
        StoreError: If a shard is not finished yet.
    """
    work = IngestJob.of(settings, request)
    with work.doing("join"):
        done = find_finished(settings, request, max_rejected)
        if done is not None:
            _log.info("Manifest %s is complete already", done["manifest"])
            return done
        return _publish(settings, work, max_rejected)


def _publish(settings: Settings, work: IngestJob, max_rejected: float) -> dict[str, Any]:
    manifest, rejected = _gather(settings, work.read_request(), Plan.read(work.plan))
    faulty = sum(one.is_fault for one in rejected)
    check_rejected(rejected, len(manifest.records) + faulty, max_rejected)
    check_parts({record.id: record.part for record in manifest.records})
    check_disjoint(manifest.records)
    settings.manifests.mkdir(parents=True, exist_ok=True)
    digest = manifest.digest
    write_atomically(settings.manifests / f"{digest}.rejected.csv", [table_of(rejected).encode()])
    write_json(settings.manifests / f"{digest}.card.json", card_of(manifest, rejected))
    manifest.write(settings.manifests)
    counted = Counter(record.part for record in manifest.records)
    summary = {
        "manifest": digest,
        "bins": len(manifest.records),
        "rejected": faulty,
        "siblings": len(rejected) - faulty,
        "parts": {part: counted[part] for part in SHARES},
    }
    write_json(work.done, summary)
    # Shards and manifest hold all that these held.
    for path in (work.journal, work.plan, work.doubt):
        path.unlink(missing_ok=True)
    return summary


def _gather(settings: Settings, request: IngestRequest, plan: Plan) -> tuple[Manifest, list[Rejection]]:
    shards: list[Shard] = []
    records: list[Record] = []
    rejected = list(plan.rejected)
    for planned, bins in zip(plan.shards, plan.bins(), strict=True):
        index = ShardIndex.read(settings, planned.key)
        if index is None:
            raise StoreError(f"shard {planned.key}: must be finished before it is joined, got none. Fetch it first.")
        if index.packed:
            records += _records(bins, index, len(shards))
            shards.append(index.shard)
        rejected += index.rejected
    return Manifest(request.source, Counts.parse(request.counts), shards, records), rejected


def _records(bins: list[PlannedBin], index: ShardIndex, number: int) -> list[Record]:
    places = {one.id: one for one in bins}
    return [
        Record(
            id=one.id,
            group=places[one.id].group,
            recorded=places[one.id].recorded,
            part=places[one.id].part,
            n_skus=places[one.id].n_skus,
            width_px=one.width_px,
            height_px=one.height_px,
            size_bytes=one.size_bytes,
            etag=one.etag,
            shard=number,
            offset=one.offset,
        )
        for one in index.packed
    ]
