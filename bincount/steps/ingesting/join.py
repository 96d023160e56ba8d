"""Joins finished shards into one manifest, and publishes it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from bincount.core.counts import Counts
from bincount.core.data_card import card_of
from bincount.core.errors import StoreError
from bincount.core.manifest import Manifest, Record, Shard
from bincount.core.plan import check_parts
from bincount.core.rejected import Rejected, table_of
from bincount.core.split import SHARES, check_disjoint
from bincount.edge.settings import Settings
from bincount.steps.ingesting.limits import check_rejected
from bincount.steps.ingesting.plan import Plan
from bincount.steps.ingesting.request import Request, Work, write_whole
from bincount.steps.ingesting.shards import drop_shard, read_index


def join_shards(settings: Settings, request: Request, plan: Plan) -> dict[str, Any]:
    """Writes table, card and, last, the manifest of all planned shards.

    Returns:
        {"manifest": its digest, "bins": n, "rejected": n, "parts": {part: n}}.

    Raises:
        DataError: If too many bins are faulty or a part is empty; then nothing is
            published, and faulty bins are asked for again by the next attempt.
        StoreError: If a shard is not finished yet.
    """
    manifest, rejected = _gather(settings, request, plan)
    work = Work.of(settings, request.name)
    faulty = sum(one.is_fault for one in rejected)
    try:
        check_rejected(rejected, len(manifest.records) + faulty, request.max_rejected)
        check_parts({record.id: record.part for record in manifest.records})
    except Exception:
        forget_faulty(settings, plan, work)
        raise
    check_disjoint(manifest.records)
    settings.manifests.mkdir(parents=True, exist_ok=True)
    digest = manifest.digest
    write_whole(settings.manifests / f"{digest}.rejected.csv", table_of(rejected).encode())
    card = card_of(manifest, rejected)
    write_whole(settings.manifests / f"{digest}.card.json", json.dumps(card, indent=1).encode() + b"\n")
    manifest.write(settings.manifests)
    counted = Counter(record.part for record in manifest.records)
    parts = {part: counted[part] for part in SHARES}
    summary = {"manifest": digest, "bins": len(manifest.records), "rejected": len(rejected), "parts": parts}
    write_whole(work.done, json.dumps(summary).encode())
    # Shards and manifest hold all that these held.
    work.journal.unlink(missing_ok=True)
    work.plan.unlink(missing_ok=True)
    return summary


def forget_faulty(settings: Settings, plan: Plan, work: Work) -> None:
    """Drops what holds faulty bins, so that the next attempt asks for them again."""
    for shard in plan.shards():
        index = read_index(settings, shard.key)
        if index is not None and index.rejected:
            drop_shard(settings, shard.key)
    work.plan.unlink(missing_ok=True)


def _gather(settings: Settings, request: Request, plan: Plan) -> tuple[Manifest, list[Rejected]]:
    shards: list[Shard] = []
    records: list[Record] = []
    rejected = list(plan.rejected)
    for number, planned in enumerate(plan.shards()):
        index = read_index(settings, planned.key)
        if index is None:
            raise StoreError(f"shard {number}: must be finished before it is joined, got none. Run its fetch again.")
        shards.append(index.shard)
        rejected += index.rejected
        placed = {one.id: one for one in planned.bins}
        for one in index.packed:
            place = placed[one.id]
            records.append(
                Record(
                    id=one.id,
                    group=place.group,
                    recorded=place.recorded,
                    part=place.part,
                    n_skus=place.n_skus,
                    width_px=one.width_px,
                    height_px=one.height_px,
                    size_bytes=one.size_bytes,
                    etag=one.etag,
                    shard=number,
                    offset=one.offset,
                )
            )
    return Manifest(request.source, Counts.parse(request.counts), shards, records), rejected
