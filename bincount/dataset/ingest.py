"""Brings bins in: from a bucket or a folder to shards and a manifest."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from bincount.config import IngestConfig
from bincount.counts import Counts
from bincount.dataset.data_card import data_card_of
from bincount.dataset.fetch import fetch
from bincount.dataset.job import IngestJob, JobSpec, check_rejected, find_finished_ingest
from bincount.dataset.manifest import Manifest, Record, Shard, read_manifest
from bincount.dataset.placement import check_parts
from bincount.dataset.plan import Plan, PlannedBin, plan
from bincount.dataset.rejection import Rejection, rejected_csv
from bincount.dataset.shards import ShardIndex
from bincount.dataset.split import AUXILIARY, PART_FRACTIONS, check_disjoint
from bincount.errors import StoreError
from bincount.files import write_atomically, write_json
from bincount.settings import Settings
from bincount.store.open_store import open_store
from bincount.store.workspace import open_workspace

_log = logging.getLogger(__name__)


def ingest(settings: Settings, *, attempt: str | None = None, **options: Any) -> dict[str, Any]:
    """Ingests bins and logs them in an MLflow run.

    What `plan` and `fetch` have finished is not repeated: after them only the shards are joined.

    Args:
        settings: Names workspace, buckets and tracking server.
        attempt: Identifies the attempt, such as a DAG run's id: a retry resumes its MLflow run.
        **options: Fields of `IngestConfig`: source, ids, counts, limit, seed, other_counts, workers, max_rejected.

    Returns:
        {"run_id", "manifest", "bins", "rejected", "siblings", "parts": {part: bins}}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty, a part is empty, or ids lost their leading zeros.
        StoreError: If the source does not answer; the next run resumes.
    """
    from bincount.tracking import runs

    run_id = runs.open_run(settings, attempt=attempt)
    with runs.marking_failed(settings, run_id):
        summary = collect(settings, **options)
        config = IngestConfig(**options)
        params = {name: getattr(config, name) for name in ("source", "ids", "counts", "limit", "seed", "other_counts")}
        runs.log_params(settings, run_id, params)
        _log_data_card(settings, run_id, summary["manifest"])
    return {"run_id": run_id, **summary}


def collect(settings: Settings, **options: Any) -> dict[str, Any]:
    """Ingests bins without logging to MLflow; arguments and errors are those of `ingest`.

    Returns:
        {"manifest", "bins", "rejected", "siblings", "parts"}, the same whatever the number of workers.
    """
    config = IngestConfig(**options)
    store = open_store(config.source, settings)
    planned = plan(settings, store=store, **options)
    name, max_rejected = planned["plan"], config.max_rejected
    if not planned["finished"]:
        fetch(settings, plan=name, store=store, workers=config.workers, max_rejected=max_rejected)
    return join(settings, name, max_rejected)


def _log_data_card(settings: Settings, run_id: str, digest: str) -> None:
    from bincount.dataset.data_card import draw_data_card
    from bincount.tracking import runs

    path = settings.manifests / f"{digest}.card.json"
    open_workspace(settings).pull(path)
    card = json.loads(path.read_bytes())
    profile = json.dumps({"bins": card["bins"], **card["parts"]})
    runs.log_dataset(settings, run_id, digest=digest, source=card["source"], profile=profile)
    runs.log_dict(settings, run_id, card, "data/card.json")
    runs.log_figures(settings, run_id, draw_data_card(read_manifest(settings, digest), card))


def join(settings: Settings, name: str, max_rejected: float) -> dict[str, Any]:
    """Publishes the planned shards: writes rejections, data card and, last, the manifest.

    Args:
        settings: Names the workspace.
        name: The job's name.
        max_rejected: Largest share of faulty bins that is published, 0 to 1.

    Returns:
        {"manifest": its digest, "bins": n, "rejected": n, "siblings": n, "parts": {part: n}}:
        `rejected` are the faulty bins, `siblings` those set aside to keep a group in one part.

    Raises:
        DataError: If too many bins are faulty or a part is empty; nothing is published.
        StoreError: If a shard is not finished yet.
    """
    job = IngestJob.of(settings, name)
    with job.locked("join"):
        finished = find_finished_ingest(settings, name, max_rejected)
        if finished is not None:
            _log.info("Manifest %s is complete already", finished.summary["manifest"])
            return finished.summary
        return _publish(settings, job, max_rejected)


def _publish(settings: Settings, job: IngestJob, max_rejected: float) -> dict[str, Any]:
    manifest, rejected = _gather(settings, job.read_spec(), Plan.read(job.plan))
    faulty = sum(one.is_fault for one in rejected)
    check_rejected(rejected, len(manifest.records) + faulty, max_rejected)
    check_parts({record.id: record.part for record in manifest.records})
    check_disjoint(manifest.records)
    settings.manifests.mkdir(parents=True, exist_ok=True)
    digest = manifest.digest
    table, card = settings.manifests / f"{digest}.rejected.csv", settings.manifests / f"{digest}.card.json"
    write_atomically(table, [rejected_csv(rejected).encode()])
    write_json(card, data_card_of(manifest, rejected))
    manifest.write(settings.manifests)
    job.shared.push(table, card, settings.manifests / f"{digest}.jsonl")
    counted = Counter(record.part for record in manifest.records)
    summary = {
        "manifest": digest,
        "bins": len(manifest.records) - counted[AUXILIARY],
        "rejected": faulty,
        "siblings": len(rejected) - faulty,
        "parts": {part: counted[part] for part in (*PART_FRACTIONS, AUXILIARY) if part in counted},
    }
    write_json(job.done, summary)
    job.shared.push(job.done)
    # Their content is in shards and manifest now.
    left = (job.journal, job.plan, job.retry_marker)
    job.shared.delete(*left)
    for path in left:
        path.unlink(missing_ok=True)
    return summary


def _gather(settings: Settings, spec: JobSpec, plan: Plan) -> tuple[Manifest, list[Rejection]]:
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
    return Manifest(spec.source, Counts.parse(spec.counts), shards, records), rejected


def _records(bins: list[PlannedBin], index: ShardIndex, shard: int) -> list[Record]:
    planned = {one.id: one for one in bins}
    return [
        Record(
            id=one.id,
            group=planned[one.id].group,
            recorded=planned[one.id].recorded,
            part=planned[one.id].part,
            n_skus=planned[one.id].n_skus,
            width_px=one.width_px,
            height_px=one.height_px,
            size_bytes=one.size_bytes,
            etag=one.etag,
            shard=shard,
            offset=one.offset,
        )
        for one in index.packed
    ]
