"""Joins finished shards into one manifest, and publishes it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from bincount.core.counts import Counts
from bincount.core.data_card import card_of
from bincount.core.errors import DataError, StoreError
from bincount.core.files import set_aside, write_json, write_whole
from bincount.core.manifest import Manifest, Record, Shard
from bincount.core.plan import check_parts
from bincount.core.rejected import Rejected, table_of
from bincount.core.split import SHARES, check_disjoint
from bincount.edge.settings import Settings
from bincount.steps.ingesting.limits import check_rejected, check_share
from bincount.steps.ingesting.plan import Plan, Planned
from bincount.steps.ingesting.request import Request, Work
from bincount.steps.ingesting.shard_index import ShardIndex, is_whole

log = logging.getLogger(__name__)


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
    work = Work.of(settings, request)
    with work.doing("join"):
        done = find_finished(settings, request, max_rejected)
        if done is not None:
            log.info("Manifest %s is complete already", done["manifest"])
            return done
        return _publish(settings, work, max_rejected)


def find_finished(settings: Settings, request: str, max_rejected: float) -> dict[str, Any] | None:
    """The summary of a request that was published and is whole, None where it is not.

    Raises:
        DataError: If more of its bins are faulty than are allowed this time.
    """
    done = Work.of(settings, request).read_done()
    path = settings.manifests / f"{done['manifest']}.jsonl" if done else None
    if done is None or path is None or not path.is_file():
        return None
    try:
        shards = Manifest.read(settings.manifests, done["manifest"]).shards
    except DataError:
        set_aside(path)
        return None
    if not all(is_whole(settings, shard) for shard in shards):
        return None
    check_share(done["rejected"], done["bins"] + done["rejected"], max_rejected, f"see {done['manifest']}.rejected.csv")
    return done


def _publish(settings: Settings, work: Work, max_rejected: float) -> dict[str, Any]:
    manifest, rejected = _gather(settings, work.read_request(), Plan.read(work.plan))
    faulty = sum(one.is_fault for one in rejected)
    check_rejected(rejected, len(manifest.records) + faulty, max_rejected)
    check_parts({record.id: record.part for record in manifest.records})
    check_disjoint(manifest.records)
    settings.manifests.mkdir(parents=True, exist_ok=True)
    digest = manifest.digest
    write_whole(settings.manifests / f"{digest}.rejected.csv", [table_of(rejected).encode()])
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


def _gather(settings: Settings, request: Request, plan: Plan) -> tuple[Manifest, list[Rejected]]:
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


def _records(bins: list[Planned], index: ShardIndex, number: int) -> list[Record]:
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
